"""Leaves patches out of training views (PatchDropout, arXiv 2208.07220), by timm's modules, and lets them be seen again."""

from __future__ import annotations

from typing import Any

from timm.layers import PatchDropout, PatchDropoutWithIndices
from torch import nn

from deit_fast.config import UserError


def patch_dropouts(model: nn.Module) -> list[nn.Module]:
    """The modules of a timm model that leave patches out in training mode."""
    return [module for module in model.modules() if isinstance(module, PatchDropout | PatchDropoutWithIndices)]


def check_patch_dropout(model: nn.Module, rate: float, option: str) -> None:
    """Makes each module keep all tokens before the patches, in place. Raises UserError if a model has none. option: names the
    model.

    timm 1.0.31 builds the module of a distilled DeiT before its distillation token, which would be left out like a patch.
    """
    modules = patch_dropouts(model)
    if not modules:
        raise UserError(f"model.patch_dropout={rate:g}: timm's {option} cannot leave patches out; want 0, or a ViT")
    with_tokens: Any = model
    for module in modules:
        module.num_prefix_tokens = with_tokens.num_prefix_tokens


def show_patches(modules: list[nn.Module], *, all_of_them: bool) -> None:
    """Lets modules leave patches out of the next training views, or not.

    By their mode and not by their rate: compiled code then has two forms, and each shape one graph."""
    for module in modules:
        module.train(not all_of_them)
