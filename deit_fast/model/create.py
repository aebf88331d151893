"""Creates a timm model by name, for a number of classes and a resolution."""

from __future__ import annotations

from typing import Any

import timm
from timm.layers import DropPath
from timm.models.cait import Cait
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.attention import use_float32_attention
from deit_fast.model.blurpool import add_blurpool
from deit_fast.model.names import stated, timm_model, with_layers
from deit_fast.model.patch_dropout import check_patch_dropout
from deit_fast.model.skipping import drops, use_skipping

_REFUSALS = (TypeError, ValueError, AssertionError, ZeroDivisionError, IndexError, KeyError, RuntimeError, AttributeError)
_DISPENSABLE = ("drop_path_rate", "img_size", "patch_drop_rate", "dynamic_img_size")  # some architectures do not take these


def create_model(
    config: ModelConfig, *, num_classes: int, resolution: int, option: str = "model.name", has_other_sides: bool = False
) -> nn.Module:
    """Creates a freshly initialised model from (B, 3, resolution, resolution) images to (B, num_classes) logits.

    has_other_sides: images may have other sides too, if the architecture can do that: a ViT then interpolates its position
    embeddings from the grid of the resolution in each forward pass, bicubically and antialiased (timm's dynamic_img_size).
    Ignores config.weights and config.trains, and config.drop_path if the architecture has no stochastic depth (see lacks_of).
    Draws weights from PyTorch's generator. Raises UserError for a name that neither timm nor DeiT's code knows (with close
    matches; option: the name's option), for options that the architecture does not take, and for a resolution that its patch
    size does not divide.
    """
    name, defaults = timm_model(config.name, option)
    given, options = _arguments(config, resolution, has_other_sides), with_layers(config.options, f"{option}={config.name}")
    try:
        model = _build(name, num_classes, defaults | given | options, options)
    except _REFUSALS as error:
        wanted = ", ".join(f"{key}={value}" for key, value in (given | config.options).items())
        raise UserError(f"{option}={config.name}: timm cannot build it with {wanted}: {error}") from error
    if not hasattr(model, "reset_classifier"):
        raise UserError(f"{option}={config.name}: is an encoder without a classifier; want a model that classifies")
    if resolution != stated(config.name).input_size[-1]:
        _check_patches(model, resolution)
    if config.patch_dropout:
        check_patch_dropout(model, config.patch_dropout, config.name)
    drop_path = config.options.get("drop_path_rate", config.drop_path)
    if config.drop_path_rates == "constant" and drop_path:
        _set_drop_path(model, drop_path)
    if config.drop_path_kind == "skip":
        use_skipping(model)
    if config.attention_dtype == "float32":
        use_float32_attention(model)
    if config.blurpool:
        add_blurpool(model)
    return model


def lacks_of(config: ModelConfig, model: nn.Module) -> list[str]:
    """A line for each feature that the configuration asks for and the architecture lacks."""
    if not config.drop_path or any(drops(module) for module in model.modules()):
        return []
    return [f"model.drop_path={config.drop_path:g}: {config.name} has no stochastic depth and is trained without"]


def _build(name: str, num_classes: int, arguments: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    """timm's model; drops arguments that it refuses, unless the user's options name them."""
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments)
    except TypeError as error:
        refused = next((key for key in _DISPENSABLE if key in arguments and f"'{key}'" in str(error)), None)
        if refused is None or refused in options:
            raise
        rest = {key: value for key, value in arguments.items() if key != refused}
        return _build(name, num_classes, rest, options)
    return model


def _arguments(config: ModelConfig, resolution: int, has_other_sides: bool) -> dict[str, Any]:
    """timm's arguments for a configuration, except config.options."""
    arguments: dict[str, Any] = {}
    is_transformer = has_fixed_resolution(config.name)
    if is_transformer:
        arguments["img_size"] = resolution
        if has_other_sides:
            arguments["dynamic_img_size"] = True
    if config.drop_path:
        arguments["drop_path_rate"] = config.drop_path
    if config.patch_dropout:
        arguments["patch_drop_rate"] = config.patch_dropout
    if config.dropout and is_transformer:
        # both together are drop_rate of timm 0.3.2, which trained DeiT; today's drop_rate is that of the head
        arguments |= {"pos_drop_rate": config.dropout, "proj_drop_rate": config.dropout}
    elif config.dropout:
        arguments["drop_rate"] = config.dropout
    return arguments


def _set_drop_path(model: nn.Module, rate: float) -> None:
    """Gives every block the same rate of stochastic depth, as in DeiT III; in place.

    timm's rates rise linearly, and it puts an identity (in a ResNet: nothing) where the rate is 0. CaiT's rate is already
    constant in timm, and its class attention has none.
    """
    if isinstance(model, Cait):
        return
    places = [
        (module, name)
        for module in model.modules()
        for name in ("drop_path", "drop_path1", "drop_path2")
        if isinstance(getattr(module, name, 0.0), DropPath | nn.Identity | None)
    ]
    if not places:
        raise UserError(f"model.drop_path_rates=constant: {type(model).__name__} has no stochastic depth in its blocks")
    for module, name in places:
        setattr(module, name, DropPath(rate))


def has_fixed_resolution(name: str) -> bool:
    """Whether the named model is built for one input resolution (position embeddings), like ViTs."""
    return stated(name).fixed_input_size


def num_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _check_patches(model: nn.Module, resolution: int) -> None:
    patch_embed = getattr(model, "patch_embed", None)
    patch_size = getattr(patch_embed, "patch_size", None)
    proj = getattr(patch_embed, "proj", None)
    overlaps = isinstance(proj, nn.Conv2d) and proj.stride != proj.kernel_size  # as in PVT
    if patch_size is None or overlaps:
        return
    height, width = patch_size if isinstance(patch_size, tuple) else (patch_size, patch_size)
    if resolution % height or resolution % width:
        nearest = max(height, round(resolution / height) * height)
        raise UserError(
            f"data.resolution={resolution}: the model's patches of {height}x{width} pixels do not divide it; the nearest "
            f"that fits is {nearest}"
        )
