"""The models of DeiT's code written out in NumPy, in float64, from weights by the names of its files."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

_error_function = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Array) -> Array:
    return x * (1 + _error_function(x / math.sqrt(2))) / 2


def softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def layer_norm(weights: Weights, name: str, x: Array) -> Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(weights: Weights, name: str, x: Array) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def mlp(weights: Weights, name: str, x: Array) -> Array:
    return linear(weights, f"{name}.fc2", gelu(linear(weights, f"{name}.fc1", x)))


def convolve(weights: Weights, name: str, images: Array, stride: int = 1, padding: int = 0) -> Array:
    """A convolution of images (B, C, H, W); one of each channel by itself if the weights have one input channel."""
    kernel = weights[f"{name}.weight"]
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    formula = "bchwij,cij->bchw" if kernel.shape[1] == 1 else "bchwij,dcij->bdhw"
    result = np.einsum(formula, windows, kernel[:, 0] if kernel.shape[1] == 1 else kernel)
    return result + weights[f"{name}.bias"][:, None, None] if f"{name}.bias" in weights else result


def batch_norm(weights: Weights, name: str, images: Array) -> Array:
    """Batch normalisation by the statistics that training kept."""
    mean, variance, scale, shift = (
        weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (images - mean) / np.sqrt(variance + 1e-5) * scale + shift


def tokens(images: Array) -> Array:
    """(B, D, H, W) -> (B, H * W, D)."""
    return images.reshape(*images.shape[:2], -1).transpose(0, 2, 1)


def patches(weights: Weights, images: Array) -> Array:
    """Patches, embedded by a linear layer or by DeiT's hMLP_stem."""
    if "patch_embed.proj.weight" in weights:
        return tokens(convolve(weights, "patch_embed.proj", images, weights["patch_embed.proj.weight"].shape[2]))
    for layer in (0, 3, 6):
        images = gelu(images) if layer else images
        images = convolve(weights, f"patch_embed.proj.{layer}", images, weights[f"patch_embed.proj.{layer}.weight"].shape[2])
        images = batch_norm(weights, f"patch_embed.proj.{layer + 1}", images)
    return tokens(images)


def attend(q: Array, k: Array, v: Array, num_heads: int) -> Array:
    """Attention of queries (B, Q, D) to (B, N, D), head by head."""
    width, heads = q.shape[2] // num_heads, []
    for start in range(0, q.shape[2], width):
        part = slice(start, start + width)
        heads.append(softmax(q[..., part] @ k[..., part].transpose(0, 2, 1) / math.sqrt(width)) @ v[..., part])
    return np.concatenate(heads, axis=2)


def self_attention(weights: Weights, name: str, x: Array, num_heads: int) -> Array:
    q, k, v = np.split(linear(weights, f"{name}.qkv", x), 3, axis=2)
    return linear(weights, f"{name}.proj", attend(q, k, v, num_heads))


def query_attention(weights: Weights, name: str, queries: Array, x: Array, num_heads: int) -> Array:
    q, k, v = (linear(weights, f"{name}.{part}", y) for part, y in (("q", queries), ("k", x), ("v", x)))
    return linear(weights, f"{name}.proj", attend(q, k, v, num_heads))


def talking_heads(weights: Weights, name: str, x: Array, num_heads: int) -> Array:
    """Self-attention whose heads are mixed before and after the softmax."""
    q, k, v = (
        part.reshape(*x.shape[:2], num_heads, -1).transpose(0, 2, 1, 3)
        for part in np.split(linear(weights, f"{name}.qkv", x), 3, axis=2)
    )
    scores = (q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[3])).transpose(0, 2, 3, 1)
    shares = softmax(linear(weights, f"{name}.proj_l", scores).transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    mixed = linear(weights, f"{name}.proj_w", shares).transpose(0, 3, 1, 2)
    return linear(weights, f"{name}.proj", (mixed @ v).transpose(0, 2, 1, 3).reshape(x.shape))


def num_blocks(weights: Weights) -> int:
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))


def vit(weights: Weights, images: Array, num_heads: int) -> Array:
    """models_v2.py: DeiT III, and parallel blocks, whose branches see the same tokens and are added."""
    x = patches(weights, images) + weights["pos_embed"]
    x = np.concatenate([weights["cls_token"].repeat(len(x), 0), x], axis=1)
    for i in range(num_blocks(weights)):
        block = f"blocks.{i}."
        branches = [branch for branch in ("", "1") if f"{block}norm1{branch}.weight" in weights]
        gammas = {
            (part, branch): weights.get(f"{block}gamma_{part}{'_1' if branch else ''}", np.ones(1))
            for part in (1, 2)
            for branch in branches
        }
        x = x + sum(
            gammas[1, branch]
            * self_attention(weights, f"{block}attn{branch}", layer_norm(weights, f"{block}norm1{branch}", x), num_heads)
            for branch in branches
        )
        x = x + sum(
            gammas[2, branch] * mlp(weights, f"{block}mlp{branch}", layer_norm(weights, f"{block}norm2{branch}", x))
            for branch in branches
        )
    return linear(weights, "head", layer_norm(weights, "norm", x)[:, 0])


def _pool(weights: Weights, block: str, queries: Array, x: Array, num_heads: int, sees_queries: bool) -> Array:
    """A block whose queries alone change: CaiT's class attention, PatchConvNet's pooling."""
    everything = np.concatenate([queries, x], axis=1) if sees_queries else x
    asked = layer_norm(weights, f"{block}.norm1", everything)
    attended = query_attention(weights, f"{block}.attn", layer_norm(weights, f"{block}.norm1", queries), asked, num_heads)
    queries = queries + weights[f"{block}.gamma_1"] * attended
    return queries + weights[f"{block}.gamma_2"] * mlp(weights, f"{block}.mlp", layer_norm(weights, f"{block}.norm2", queries))


def cait(weights: Weights, images: Array, num_heads: int) -> Array:
    """cait_models.py: talking heads among patches, then two blocks in which the class token asks them."""
    x = patches(weights, images) + weights["pos_embed"]
    for i in range(num_blocks(weights)):
        block = f"blocks.{i}"
        normalised = layer_norm(weights, f"{block}.norm1", x)
        x = x + weights[f"{block}.gamma_1"] * talking_heads(weights, f"{block}.attn", normalised, num_heads)
        x = x + weights[f"{block}.gamma_2"] * mlp(weights, f"{block}.mlp", layer_norm(weights, f"{block}.norm2", x))
    token = weights["cls_token"].repeat(len(x), 0)
    for i in range(2):
        token = _pool(weights, f"blocks_token_only.{i}", token, x, num_heads, sees_queries=True)
    return linear(weights, "head", layer_norm(weights, "norm", token)[:, 0])


def resmlp(weights: Weights, images: Array) -> Array:
    """resmlp_models.py: a linear layer across patches and an MLP across channels, with affine layers for normalisation."""

    def affine(name: str, x: Array) -> Array:
        return weights[f"{name}.alpha"] * x + weights[f"{name}.beta"]

    x = patches(weights, images)
    for i in range(num_blocks(weights)):
        block = f"blocks.{i}"
        across = linear(weights, f"{block}.attn", affine(f"{block}.norm1", x).transpose(0, 2, 1)).transpose(0, 2, 1)
        x = x + weights[f"{block}.gamma_1"] * across
        x = x + weights[f"{block}.gamma_2"] * mlp(weights, f"{block}.mlp", affine(f"{block}.norm2", x))
    return linear(weights, "head", affine("norm", x).mean(1))


def patchconvnet(weights: Weights, images: Array, num_heads: int) -> Array:
    """patchconvnet_models.py: convolutional stem, columns with squeeze-and-excitation, pooling by one query or one a class."""
    for layer in (0, 2, 4, 6):
        images = convolve(weights, f"patch_embed.proj.{layer}.0", gelu(images) if layer else images, stride=2, padding=1)
    x = tokens(images)
    for i in range(num_blocks(weights)):
        block = f"blocks.{i}"
        columns = layer_norm(weights, f"{block}.norm1", x).transpose(0, 2, 1).reshape(images.shape)
        columns = gelu(convolve(weights, f"{block}.attn.qkv_pos.0", columns))
        columns = gelu(convolve(weights, f"{block}.attn.qkv_pos.2", columns, padding=1))
        squeezed = convolve(weights, f"{block}.attn.qkv_pos.4.conv_reduce", columns.mean((2, 3), keepdims=True))
        excited = convolve(weights, f"{block}.attn.qkv_pos.4.conv_expand", np.maximum(squeezed, 0))
        columns = convolve(weights, f"{block}.attn.qkv_pos.5", columns / (1 + np.exp(-excited)))
        x = x + weights[f"{block}.gamma_1"] * tokens(columns)
    queries = weights["cls_token"].repeat(len(x), 0)
    is_one = queries.shape[1] == 1
    pooled = layer_norm(weights, "norm", _pool(weights, "blocks_token_only.0", queries, x, num_heads, sees_queries=is_one))
    if is_one:
        return linear(weights, "head", pooled[:, 0])
    return np.concatenate([linear(weights, f"head.{i}", pooled[:, i]) for i in range(pooled.shape[1])], axis=1)
