"""Resolves names of architectures: timm's own, and DeiT's, each of which is a timm model with certain arguments."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any

import timm
from timm.models import PretrainedCfg
from timm.models.vision_transformer import ParallelThingsBlock

from deit_fast.config import UserError
from deit_fast.model import patchconvnet, resmlp  # noqa: F401  # register their models
from deit_fast.model.hmlp import HMLPStem

_SMALL, _BASE, _HUGE = "deit3_small_patch16_224", "deit3_base_patch16_224", "deit3_huge_patch14_224"
_LS: dict[str, Any] = {"init_values": 1e-4}  # LayerScale; timm's models start at 1e-6
_PLAIN: dict[str, Any] = {"init_values": 0.0}  # timm drops a None
_PARALLEL: dict[str, Any] = {"block_fn": ParallelThingsBlock}
_GIANT_40: dict[str, Any] = {"embed_dim": 1408, "depth": 40, **_LS}
_GIANT_48: dict[str, Any] = {"embed_dim": 1664, "depth": 48, **_LS}

# option of timm that takes a class -> words for classes
_LAYERS: dict[str, dict[str, Any]] = {
    "embed_layer": {"hmlp": HMLPStem},
    "block_fn": {
        "parallel": ParallelThingsBlock,
        "parallel3": partial(ParallelThingsBlock, num_parallel=3),
        "parallel4": partial(ParallelThingsBlock, num_parallel=4),
    },
}
# name in facebookresearch/deit (models_v2.py, cait_models.py, resmlp_models.py, patchconvnet_models.py) -> the model as timm
# knows it, and its arguments
_OF_DEIT: dict[str, tuple[str, dict[str, Any]]] = {
    # DeiT III
    "deit_tiny_patch16_LS": (_SMALL, {"embed_dim": 192, "num_heads": 3, **_LS}),
    "deit_small_patch16_LS": (_SMALL, _LS),
    "deit_medium_patch16_LS": ("deit3_medium_patch16_224", _LS),
    "deit_base_patch16_LS": (_BASE, _LS),
    "deit_large_patch16_LS": ("deit3_large_patch16_224", _LS),
    "deit_huge_patch14_LS": (_HUGE, _LS),
    "deit_huge_patch14_52_LS": (_HUGE, {"depth": 52, **_LS}),
    "deit_huge_patch14_26x2_LS": (_HUGE, {"depth": 26, **_LS, **_PARALLEL}),
    "deit_Giant_48x2_patch14_LS": (_HUGE, {**_GIANT_48, **_PARALLEL}),
    "deit_giant_40x2_patch14_LS": (_HUGE, {**_GIANT_40, **_PARALLEL}),
    "deit_Giant_48_patch14_LS": (_HUGE, _GIANT_48),
    "deit_giant_40_patch14_LS": (_HUGE, _GIANT_40),
    # Three things everyone should know about Vision Transformers
    "deit_small_patch16_36_LS": (_SMALL, {"depth": 36, **_LS}),
    "deit_small_patch16_36": (_SMALL, {"depth": 36, **_PLAIN}),
    "deit_small_patch16_18x2_LS": (_SMALL, {"depth": 18, **_LS, **_PARALLEL}),
    "deit_small_patch16_18x2": (_SMALL, {"depth": 18, **_PLAIN, **_PARALLEL}),
    "deit_base_patch16_18x2_LS": (_BASE, {"depth": 18, **_LS, **_PARALLEL}),
    "deit_base_patch16_18x2": (_BASE, {"depth": 18, **_PLAIN, **_PARALLEL}),
    "deit_base_patch16_36x1_LS": (_BASE, {"depth": 36, **_LS}),
    "deit_base_patch16_36x1": (_BASE, {"depth": 36, **_PLAIN}),
    # CaiT and ResMLP
    "cait_XXS24_224": ("cait_xxs24_224", {}),
    "cait_XXS24": ("cait_xxs24_384", {}),
    "cait_XXS36_224": ("cait_xxs36_224", {}),
    "cait_XXS36": ("cait_xxs36_384", {}),
    "cait_XS24": ("cait_xs24_384", {}),
    "cait_S24_224": ("cait_s24_224", {}),
    "cait_S24": ("cait_s24_384", {}),
    "cait_S36": ("cait_s36_384", {}),
    "cait_M36": ("cait_m36_384", {}),
    "cait_M48": ("cait_m48_448", {}),
    "resmlp_12": ("resmlp_12_224", {}),
    "resmlp_24": ("resmlp_24_224", {}),
    "resmlp_36": ("resmlp_36_224", {}),
    "resmlpB_24": ("resmlp_big_24_224", {}),
    # PatchConvNet
    "S60": ("patchconvnet_s60", {}),
    "S120": ("patchconvnet_s120", {}),
    "B60": ("patchconvnet_b60", {}),
    "B120": ("patchconvnet_b120", {}),
    "L60": ("patchconvnet_l60", {}),
    "L120": ("patchconvnet_l120", {}),
    "S60_multi": ("patchconvnet_s60_multi", {}),
}
NAMES_OF_DEIT = tuple(_OF_DEIT)


def timm_model(name: str, option: str = "model.name") -> tuple[str, dict[str, Any]]:
    """timm's name of a model, and the arguments that turn it into the named one; {} for timm's own names.

    Raises UserError for a name that neither timm nor DeiT's code knows, with close matches. option: the name's option.
    """
    if name in _OF_DEIT:
        known, arguments = _OF_DEIT[name]
        return known, dict(arguments)
    if timm.is_model(name):
        return name, {}
    names = [*timm.list_models(), *NAMES_OF_DEIT]
    near = [other for other in names if other.startswith(name)][:3]
    near = near or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else "; `timm.list_models()` lists the names"
    raise UserError(f"{option}={name}: timm has no such model{hint}")


def with_layers(options: Mapping[str, Any], model: str = "model.options") -> dict[str, Any]:
    """Options of a model with timm's classes for the words that stand for them, as model.options gives only words.

    embed_layer=hmlp: the hMLP stem of patches. block_fn=parallel: blocks of two parallel attentions and two parallel MLPs;
    parallel3 and parallel4: of three and four (arXiv 2203.09795). What is no word stays as it is. model: names the model in the
    error. Raises UserError for other words.
    """
    chosen = dict(options)
    for key, layers in _LAYERS.items():
        word = options.get(key)
        if isinstance(word, str):
            if word not in layers:
                raise UserError(f"{model}: {key}={word}: want {', '.join(layers)}")
            chosen[key] = layers[word]
    return chosen


def stated(name: str, option: str = "model.name") -> PretrainedCfg:
    """timm's facts about a model, such as side and normalisation of its images; timm's defaults if it states nothing.

    Raises UserError for an unknown name, as timm_model does.
    """
    return timm.get_pretrained_cfg(timm_model(name, option)[0]) or PretrainedCfg()
