"""Computes a model's attention on images, layer by layer, and its rollout through all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.cait import ClassAttn
from timm.models.vision_transformer import Attention
from torch import nn

from deit_fast.model import patchconvnet
from deit_fast.model.patchconvnet import PatchConvNet


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """What class and distillation token attend to, on a grid of patches (height, width), float32 numbers.

    layers: the class token's in each layer that has one, in order, (B, num_heads, height, width). rollout: by the name of a
    token, (B, height, width), of all layers together; empty where that is not defined.
    """

    layers: list[NDArray[np.float32]]
    rollout: dict[str, NDArray[np.float32]]


@torch.inference_mode()
def attention_maps(model: nn.Module, images: torch.Tensor) -> AttentionMaps | None:
    """Attention of a timm model in evaluation mode on images (B, 3, H, W); None for a model without a class token's attention.

    Handles the self-attention of ViTs (DeiT, DeiT III, distilled or not), CaiT's class attention, and PatchConvNet's pooling,
    whose query is a class token, or, with one query for each class, that of the predicted class. The weights are computed from
    the inputs of the model's attention layers, by its own projections, and do not change its results.
    """
    if isinstance(model, PatchConvNet):
        return AttentionMaps([_of_pooling(model, images).cpu().numpy()], {})
    weights: list[torch.Tensor] = []
    with _watching(model, lambda module, inputs: weights.append(_WEIGHTS[_kind(module)](module, inputs))):
        model(images)
    num_prefix = int(getattr(model, "num_prefix_tokens", 0) or any(isinstance(one, ClassAttn) for one in model.modules()))
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if not weights or not num_prefix or grid is None or any(one.shape[-1] != num_prefix + grid[0] * grid[1] for one in weights):
        return None
    layers = [one[:, :, 0, num_prefix:].unflatten(2, grid).cpu().numpy() for one in weights]
    rolled: dict[str, NDArray[np.float32]] = {}
    if _is_sequence(model, weights):
        whole = rollout(weights)
        names = ("class", "distillation")[: min(2, num_prefix) if hasattr(model, "dist_token") else 1]
        for token, name in enumerate(names):
            rolled[name] = whole[:, token, num_prefix:].unflatten(1, grid).cpu().numpy()
    return AttentionMaps(layers, rolled)


def rollout(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Attention rollout (B, N, N) of the weights (B, num_heads, N, N) of layers, the first first.

    Row n holds the shares of the input's tokens in the output's token n: the product of the layers' (A + I) / 2, A being the
    mean over heads (Abnar and Zuidema, ACL 2020, section 3).
    """
    size = weights[0].shape[-1]
    identity = torch.eye(size, dtype=torch.float32, device=weights[0].device)
    total = identity.expand(len(weights[0]), size, size)
    for layer in weights:
        total = (layer.float().mean(1) + identity) / 2 @ total
    return total


def _of_pooling(model: PatchConvNet, images: torch.Tensor) -> torch.Tensor:
    """Shares (B, num_heads, height, width) of patches in what a PatchConvNet pools for the class that it predicts."""
    shares = patchconvnet.attention_maps(model, images)
    said = model(images).argmax(1) if shares.shape[1] > 1 else torch.zeros(len(shares), dtype=torch.int64, device=images.device)
    return shares[torch.arange(len(shares), device=images.device), said].float()


@contextmanager
def _watching(model: nn.Module, seen: Callable[[nn.Module, torch.Tensor], None]) -> Iterator[None]:
    """Inside the block, `seen` is called with each attention layer and its input (B, N, D), in the order in which they run."""
    modules = [module for module in model.modules() if isinstance(module, tuple(_WEIGHTS))]
    hooks = [module.register_forward_pre_hook(lambda module, inputs: seen(module, inputs[0])) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _kind(module: nn.Module) -> type[nn.Module]:
    return next(kind for kind in _WEIGHTS if isinstance(module, kind))


def _of_self_attention(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Weights (B, num_heads, N, N) of timm's self-attention."""
    assert isinstance(module, Attention)
    queries, keys, _ = module.qkv(inputs).unflatten(2, (3, module.num_heads, module.head_dim)).permute(2, 0, 3, 1, 4)
    return _softmax(module.q_norm(queries), module.k_norm(keys), module.scale)


def _of_class_attention(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Weights (B, num_heads, 1, N) of CaiT's class attention."""
    assert isinstance(module, ClassAttn)
    queries, keys = (
        projected.unflatten(2, (module.num_heads, -1)).transpose(1, 2)
        for projected in (module.q(inputs[:, :1]), module.k(inputs))
    )
    return _softmax(queries, keys, module.scale)


def _softmax(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    return (queries.float() * scale @ keys.float().transpose(-2, -1)).softmax(-1)


def _is_sequence(model: nn.Module, weights: Sequence[torch.Tensor]) -> bool:
    """Whether the model is a sequence of blocks, each with one attention of all tokens to all."""
    blocks = getattr(model, "blocks", ())
    is_square = all(one.shape[-1] == one.shape[-2] for one in weights)
    return is_square and len(blocks) == len(weights) and all(isinstance(block.attn, Attention) for block in blocks)


_WEIGHTS: dict[type[nn.Module], Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    Attention: _of_self_attention,
    ClassAttn: _of_class_attention,
}
