"""Freezes all parameters of a model except those to train."""

from __future__ import annotations

from collections.abc import Iterable

from timm.layers import RmsNorm
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from deit_fast.config import UserError
from deit_fast.model.heads import head_tensors

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, _NormBase)  # the last: batch and instance normalisation


def freeze_except(model: nn.Module, trains: str) -> None:
    """Sets requires_grad of a timm model's parameters as model.trains says, in place.

    all: every parameter. head: the class head, and the distillation head if there is one. norms: the head and all
    normalisation layers (FixRes adapts only the classifier and the last batch normalisation before the pooling: Touvron et
    al., NeurIPS 2019, section 4). attention: the head, the attention of every block and the position embeddings (Touvron et
    al. 2022, arXiv 2203.09795, section 4; like DeiT's main.py --attn-only).

    Statistics of batch normalisation are not parameters: in training mode they follow the batches, whatever is frozen.
    Raises UserError if the architecture has no such part.
    """
    parameters = dict(model.named_parameters())
    if trains == "all":
        chosen = set(parameters)
    else:
        heads = set(head_tensors(model)) & set(parameters)
        part = {"head": heads, "norms": _norms(model), "attention": _attention(parameters)}[trains]
        if not heads or not part:
            missing = "head" if not heads else trains
            raise UserError(f"model.trains={trains}: {type(model).__name__} has no {missing}; want all")
        chosen = heads | part
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)


def _norms(model: nn.Module) -> set[str]:
    norms = ((name, module) for name, module in model.named_modules() if isinstance(module, _NORMS))
    return {f"{name}.{parameter}" for name, module in norms for parameter, _ in module.named_parameters()}


def _attention(parameters: Iterable[str]) -> set[str]:
    attention = {name for name in parameters if ".attn." in name}
    return attention | ({"pos_embed"} & set(parameters)) if attention else attention
