"""ResMLP-B24 with patches of 16 pixels (arXiv 2105.03404, Table 1), which neither timm nor DeiT's code has."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock

default_cfgs = generate_default_cfgs(
    {
        "resmlp_big_24_patch16_224.untrained": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "fixed_input_size": True,
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "stem.proj",
            "classifier": "head",
        }
    }
)


@register_model
def resmlp_big_24_patch16_224(pretrained: bool = False, **kwargs: Any) -> MlpMixer:
    """An ordinary MlpMixer of timm, 115.7 M parameters; kwargs replace its sizes, as they cannot in timm's own ResMLPs."""
    sizes: dict[str, Any] = {"patch_size": 16, "num_blocks": 24, "embed_dim": 768, "mlp_ratio": 4}
    layers = {"block_layer": partial(ResBlock, init_values=1e-6), "norm_layer": Affine}
    features = {"out_indices": kwargs.pop("out_indices", 3), "feature_cls": "getter"}
    arguments = {**sizes, **layers, **kwargs}
    model: MlpMixer = build_model_with_cfg(MlpMixer, "resmlp_big_24_patch16_224", pretrained, feature_cfg=features, **arguments)
    return model
