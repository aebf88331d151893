"""Freezes all parameters of a model except those to train."""

from __future__ import annotations

from collections.abc import Iterable

from timm.layers import RmsNorm
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from deit_fast.config import UserError
from deit_fast.model.heads import head_tensors, is_distilled

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, _NormBase)  # the last: batch and instance normalisation


def freeze_except(model: nn.Module, trains: str) -> None:
    """Sets requires_grad of a timm model's parameters as model.trains says, in place.

    all: every parameter. head: the class head, and the distillation head if there is one. norms: the head and all
    normalisation layers (FixRes adapts only the classifier and the last batch normalisation before the pooling: Touvron et
    al., NeurIPS 2019, section 4). attention: the class head, the attention of every block and the position embeddings (Touvron
    et al. 2022, arXiv 2203.09795, section 4). As with DeiT's main.py --attn-only, the distillation head stays as it is. DeiT's
    rule goes by names: of two parallel blocks it takes only the first (`attn`, not `attn1`), and in PatchConvNet the
    convolutions too (`attn.qkv_pos`). Here every attention trains, and nothing else.

    Statistics of batch normalisation are not parameters: in training mode they follow the batches, whatever is frozen.
    Raises UserError if the architecture has no such part.
    """
    parameters = dict(model.named_parameters())
    if trains == "all":
        chosen = set(parameters)
    else:
        heads = {name for name in head_tensors(model) if name in parameters}
        if trains == "attention" and is_distilled(model):
            heads -= {"head_dist.weight", "head_dist.bias"}
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
