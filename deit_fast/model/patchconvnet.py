"""PatchConvNet: a convnet that keeps one resolution and pools its features by attention (Touvron et al., arXiv 2112.13692)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from timm.layers import DropPath, LayerNorm2d, LayerScale2d, SqueezeExcite, calculate_drop_path_rates
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import nn
from torch.nn import functional as F

from deit_fast.config import UserError
from deit_fast.model.attention_pool import INIT_STD, NORM_EPS, AttentionPool, ClassQueries


class ConvolutionBlock(nn.Module):
    """A residual column of convolutions (B, D, H, W) -> (B, D, H, W), with squeeze-and-excitation and LayerScale."""

    def __init__(self, dim: int, drop_path: float, init_values: float) -> None:
        super().__init__()
        self.norm = LayerNorm2d(dim, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.se = SqueezeExcite(dim, rd_channels=dim // 4)
        self.conv3 = nn.Conv2d(dim, dim, 1)
        self.ls = LayerScale2d(dim, init_values)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.drop_path(self.branch(features))

    def branch(self, features: torch.Tensor) -> torch.Tensor:
        """What the block adds to its input."""
        columns = F.gelu(self.conv1(self.norm(features)))
        return self.ls(self.conv3(self.se(F.gelu(self.conv2(columns)))))


class PatchConvNet(nn.Module):
    """Stem of four strided convolutions, blocks of convolutions on its grid of 1/16 of the image, pooling by attention.

    class_queries: one query a class instead of one for all. global_pool: attn; or nothing, which leaves features (B, D, H, W).
    drop_path_rate rises linearly over the blocks, as timm's others do (DeiT's code has the same in all). Raises ValueError for
    sizes that do not fit together, and for pooling by queries of classes without classes.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "attn",
        embed_dim: int = 384,
        depth: int = 60,
        num_heads: int = 1,
        mlp_ratio: float = 3.0,
        init_values: float = 1e-6,
        class_queries: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if embed_dim % 8:
            raise ValueError(f"embed_dim={embed_dim}: want a multiple of 8, for the widths of the stem")
        self.num_features = self.head_hidden_size = self.embed_dim = embed_dim
        self.in_chans, self.class_queries = in_chans, class_queries
        self.grad_checkpointing = False
        widths = [in_chans, embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GELU()]
        self.stem = nn.Sequential(*layers[:-1])
        rates = calculate_drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.Sequential(*(ConvolutionBlock(embed_dim, rate, init_values) for rate in rates))
        self.feature_info = [{"num_chs": embed_dim, "reduction": 16, "module": f"blocks.{i}"} for i in range(depth)]
        self.cls_token = None if class_queries else nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pool: nn.Module = AttentionPool(embed_dim, num_heads, mlp_ratio, init_values, sees_query=not class_queries)
        self.norm: nn.Module = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self.head_drop = nn.Dropout(drop_rate)
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=INIT_STD)
        self.num_classes, self.global_pool = num_classes, global_pool
        self.reset_classifier(num_classes, global_pool)
        self.apply(_init_weights)

    def no_weight_decay(self) -> set[str]:
        return {"cls_token", "head.queries"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^(?:cls_token|pool|norm)", (99999,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        global_pool = global_pool if global_pool is not None else self.global_pool
        if global_pool not in ("", "attn"):
            raise ValueError(f"global_pool={global_pool}: want attn, or nothing")
        if num_classes and not global_pool:
            raise ValueError(f"global_pool= with {num_classes} classes: features that are not pooled have no head; want attn")
        if global_pool and not num_classes and self.class_queries:
            raise ValueError("num_classes=0: nothing pools with a query a class; want global_pool= for the features")
        self.num_classes, self.global_pool = num_classes, global_pool
        head = ClassQueries if self.class_queries else nn.Linear
        self.head: nn.Module = head(self.embed_dim, num_classes) if num_classes else nn.Identity()
        self.head.to(next(self.parameters()))  # their device and dtype

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """Features after chosen blocks, as timm's models give them: (B, D, H / 16, W / 16) each. norm: normalise them by the
        last normalisation, which otherwise only what is pooled goes through."""
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt}: want NCHW")
        chosen, last = feature_take_indices(len(self.blocks), indices)
        features, intermediates = self.stem(x), []
        for i, block in enumerate(self.blocks[: last + 1] if stop_early else self.blocks):
            features = block(features)
            if i in chosen:
                intermediates.append(self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if norm else features)
        return intermediates if intermediates_only else (features, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops what comes after the chosen blocks, in place."""
        chosen, last = feature_take_indices(len(self.blocks), indices)
        self.blocks = self.blocks[: last + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
            self.pool, self.cls_token = nn.Identity(), None
        return chosen

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) -> features (B, D, H / 16, W / 16), rounded up."""
        features = self.stem(x)
        if self.grad_checkpointing:
            return checkpoint_seq(self.blocks, features)
        return self.blocks(features)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Features (B, D, H, W) -> logits (B, C); pre_logits: what is pooled, (B, D), or (B, C, D) with a query a class."""
        if not self.global_pool:
            return x
        pooled = self.norm(self.pool(x.flatten(2).transpose(1, 2), self.queries()))
        pooled = self.head_drop(pooled if self.class_queries else pooled[:, 0])
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))

    def queries(self) -> torch.Tensor:
        """The learned queries (1, Q, D)."""
        if self.cls_token is not None:
            return self.cls_token
        assert isinstance(self.head, ClassQueries)
        return self.head.queries[None]


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)


# names of DeiT's code (patchconvnet_models.py), in the order in which they are replaced
_RENAMES = (
    (re.compile(r"^patch_embed\.proj\.(\d+)\.0\."), r"stem.\1."),
    (re.compile(r"^blocks_token_only\.0\.gamma_([12])$"), r"pool.ls\1.gamma"),
    (re.compile(r"^blocks_token_only\.0\."), "pool."),
    (re.compile(r"^(blocks\.\d+)\.gamma_1$"), r"\1.ls.gamma"),
    (re.compile(r"^(blocks\.\d+)\.norm1\."), r"\1.norm."),
    (re.compile(r"\.attn\.qkv_pos\.0\."), ".conv1."),
    (re.compile(r"\.attn\.qkv_pos\.2\."), ".conv2."),
    (re.compile(r"\.attn\.qkv_pos\.4\.conv_reduce\."), ".se.fc1."),
    (re.compile(r"\.attn\.qkv_pos\.4\.conv_expand\."), ".se.fc2."),
    (re.compile(r"\.attn\.qkv_pos\.5\."), ".conv3."),
)


def checkpoint_filter_fn(state_dict: Mapping[str, Any], model: PatchConvNet) -> dict[str, torch.Tensor]:
    """Weights with the names of this module, from those of DeiT's code or its own.

    DeiT's code has a linear layer for each class beside a query for each; here they are the rows of one. A model with a query a
    class starts from weights with one query by giving it to every class.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, value in state_dict.get("model", state_dict).items():
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        weights[name] = value
    for part in ("weight", "bias"):
        rows = [weights.pop(name) for name in [f"head.{i}.{part}" for i in range(len(weights))] if name in weights]
        if rows:
            weights[f"head.{part}"] = torch.cat(rows)
    if model.class_queries and "cls_token" in weights and "head.weight" in weights:
        weights["head.queries"] = weights.pop("cls_token")[0].expand(len(weights["head.weight"]), -1).clone()
    return weights


def _create(variant: str, pretrained: bool, options: dict[str, Any], **sizes: Any) -> nn.Module:
    return build_model_with_cfg(
        PatchConvNet,
        variant,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **{**sizes, **options},
    )


_FACTS = {
    "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (14, 14), "crop_pct": 0.875, "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "first_conv": "stem.0", "classifier": "head",
}  # fmt: skip
default_cfgs = generate_default_cfgs(
    {f"patchconvnet_{size}": dict(_FACTS) for size in ("s60", "s120", "b60", "b120", "l60", "l120", "s60_multi")}
)


@register_model
def patchconvnet_s60(pretrained: bool = False, **options: Any) -> nn.Module:
    """DeiT's S60."""
    return _create("patchconvnet_s60", pretrained, options, init_values=1e-4)


@register_model
def patchconvnet_s120(pretrained: bool = False, **options: Any) -> nn.Module:
    """DeiT's S120."""
    return _create("patchconvnet_s120", pretrained, options, depth=120)


@register_model
def patchconvnet_b60(pretrained: bool = False, **options: Any) -> nn.Module:
    """DeiT's B60."""
    return _create("patchconvnet_b60", pretrained, options, embed_dim=768)


@register_model
def patchconvnet_b120(pretrained: bool = False, **options: Any) -> nn.Module:
    """DeiT's B120."""
    return _create("patchconvnet_b120", pretrained, options, embed_dim=768, depth=120)


@register_model
def patchconvnet_l60(pretrained: bool = False, **options: Any) -> nn.Module:
    """DeiT's L60."""
    return _create("patchconvnet_l60", pretrained, options, embed_dim=1024)


@register_model
def patchconvnet_l120(pretrained: bool = False, **options: Any) -> nn.Module:
    """DeiT's L120."""
    return _create("patchconvnet_l120", pretrained, options, embed_dim=1024, depth=120)


@register_model
def patchconvnet_s60_multi(pretrained: bool = False, **options: Any) -> nn.Module:
    """DeiT's S60_multi: a query a class, whose attention shows where the class is seen."""
    return _create("patchconvnet_s60_multi", pretrained, options, init_values=1e-4, class_queries=True)


@torch.no_grad()
def attention_maps(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Where a PatchConvNet looks: the share of each patch in what its queries pool, (B, Q, num_heads, H / 16, W / 16).

    images (B, 3, H, W), normalised, on the model's device. Q is 1, or the number of classes with a query a class. Shares are 0
    to 1. Those of a class's query sum to 1; those of the single query to at most 1, as it attends to itself as well. Draws
    stochastic depth in training mode: call `model.eval()` before. Raises UserError for a model of another kind.
    """
    if not isinstance(model, PatchConvNet) or not model.global_pool:
        raise UserError(f"{type(model).__name__}: pools without attention; want a PatchConvNet with its head")
    features = model.forward_features(images)
    assert isinstance(model.pool, AttentionPool)
    shares = model.pool.shares(features.flatten(2).transpose(1, 2), model.queries())
    return shares.transpose(1, 2).unflatten(3, features.shape[2:])
