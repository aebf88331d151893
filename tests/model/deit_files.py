"""Random weights by the names and shapes of DeiT's files: two blocks of a small width."""

from __future__ import annotations

import torch

Shapes = dict[str, tuple[int, ...]]
WIDTH, HEADS, CLASSES, GRID = 24, 2, 5, 2


def fill(shapes: Shapes, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Float64 values; variances are positive, counts whole."""
    weights: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        value = 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            value = value.abs() + 0.1
        weights[name] = torch.tensor(7) if name.endswith("num_batches_tracked") else value
    return weights


def layer(name: str, outputs: int, *inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def _mlp(name: str, ratio: int = 4) -> Shapes:
    return layer(f"{name}.fc1", ratio * WIDTH, WIDTH) | layer(f"{name}.fc2", WIDTH, ratio * WIDTH)


def _attention(name: str) -> Shapes:
    return layer(f"{name}.qkv", 3 * WIDTH, WIDTH) | layer(f"{name}.proj", WIDTH, WIDTH)


def _outside(patch: int, *, hmlp: bool = False) -> Shapes:
    """What stands around the blocks."""
    if not hmlp:
        stem = layer("patch_embed.proj", WIDTH, 3, patch, patch)
    else:
        stem = {}
        for i, outputs, inputs, side in ((0, WIDTH // 4, 3, 4), (3, WIDTH // 4, WIDTH // 4, 2), (6, WIDTH, WIDTH // 4, 2)):
            norm = f"patch_embed.proj.{i + 1}"
            stem |= layer(f"patch_embed.proj.{i}", outputs, inputs, side, side) | layer(norm, outputs)
            stem |= {f"{norm}.running_mean": (outputs,), f"{norm}.running_var": (outputs,), f"{norm}.num_batches_tracked": ()}
    return stem | layer("head", CLASSES, WIDTH)


def vit(patch: int, branches: int, scales: bool, *, hmlp: bool = False) -> Shapes:
    """models_v2.py."""
    shapes = _outside(patch, hmlp=hmlp) | layer("norm", WIDTH)
    shapes |= {"cls_token": (1, 1, WIDTH), "pos_embed": (1, GRID**2, WIDTH)}
    for block in ("blocks.0.", "blocks.1."):
        for second in ("", "1")[:branches]:
            shapes |= layer(f"{block}norm1{second}", WIDTH) | layer(f"{block}norm2{second}", WIDTH)
            shapes |= _attention(f"{block}attn{second}") | _mlp(f"{block}mlp{second}")
            if scales:
                shapes |= {f"{block}gamma_{part}{'_1' if second else ''}": (WIDTH,) for part in (1, 2)}
    return shapes


def _pool(block: str, ratio: int) -> Shapes:
    shapes = layer(f"{block}.norm1", WIDTH) | layer(f"{block}.norm2", WIDTH) | _mlp(f"{block}.mlp", ratio)
    for part in ("q", "k", "v", "proj"):
        shapes |= layer(f"{block}.attn.{part}", WIDTH, WIDTH)
    return shapes | {f"{block}.gamma_{part}": (WIDTH,) for part in (1, 2)}


def cait() -> Shapes:
    """cait_models.py; its files put `module.` before each name."""
    shapes = _outside(16) | layer("norm", WIDTH) | {"cls_token": (1, 1, WIDTH), "pos_embed": (1, GRID**2, WIDTH)}
    for block in ("blocks.0", "blocks.1"):
        shapes |= layer(f"{block}.norm1", WIDTH) | layer(f"{block}.norm2", WIDTH)
        shapes |= _attention(f"{block}.attn") | _mlp(f"{block}.mlp")
        shapes |= layer(f"{block}.attn.proj_l", HEADS, HEADS) | layer(f"{block}.attn.proj_w", HEADS, HEADS)
        shapes |= {f"{block}.gamma_{part}": (WIDTH,) for part in (1, 2)}
    for i in range(2):
        shapes |= _pool(f"blocks_token_only.{i}", 4)
    return {f"module.{name}": shape for name, shape in shapes.items()}


def resmlp(patch: int) -> Shapes:
    """resmlp_models.py."""
    shapes = _outside(patch) | {"norm.alpha": (WIDTH,), "norm.beta": (WIDTH,)}
    for block in ("blocks.0", "blocks.1"):
        shapes |= {f"{block}.norm{i}.{part}": (WIDTH,) for i in (1, 2) for part in ("alpha", "beta")}
        shapes |= layer(f"{block}.attn", GRID**2, GRID**2) | _mlp(f"{block}.mlp")
        shapes |= {f"{block}.gamma_{part}": (WIDTH,) for part in (1, 2)}
    return shapes


def patchconvnet(*, multi: bool = False) -> Shapes:
    """patchconvnet_models.py; multi: a query and a linear layer for each class."""
    shapes = {"cls_token": (1, CLASSES if multi else 1, WIDTH)} | layer("norm", WIDTH)
    for i, outputs, inputs in (
        (0, WIDTH // 8, 3),
        (2, WIDTH // 4, WIDTH // 8),
        (4, WIDTH // 2, WIDTH // 4),
        (6, WIDTH, WIDTH // 2),
    ):
        shapes |= {f"patch_embed.proj.{i}.0.weight": (outputs, inputs, 3, 3)}
    for block in ("blocks.0", "blocks.1"):
        convolutions = f"{block}.attn.qkv_pos"
        shapes |= layer(f"{block}.norm1", WIDTH) | {f"{block}.gamma_1": (WIDTH,)}
        shapes |= layer(f"{convolutions}.0", WIDTH, WIDTH, 1, 1) | layer(f"{convolutions}.2", WIDTH, 1, 3, 3)
        shapes |= layer(f"{convolutions}.4.conv_reduce", WIDTH // 4, WIDTH, 1, 1)
        shapes |= layer(f"{convolutions}.4.conv_expand", WIDTH, WIDTH // 4, 1, 1)
        shapes |= layer(f"{convolutions}.5", WIDTH, WIDTH, 1, 1)
    shapes |= _pool("blocks_token_only.0", 3)
    if not multi:
        return shapes | layer("head", CLASSES, WIDTH)
    for i in range(CLASSES):
        shapes |= layer(f"head.{i}", 1, WIDTH)
    return shapes
