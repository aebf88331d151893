"""Optimisers of timm, by their names there: optim.name=timm:NAME."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers

from deit_fast.config import TIMM_PREFIX, OptimConfig, UserError

# timm.create_optimizer_v2 makes groups of a model by these; here `parameter_groups` does
FALLBACK_OPTIONS = ("fallback_list", "fallback_no_weight_decay")
_OF_GROUPS = {
    "lr": "optim.lr",
    "weight_decay": "optim.weight_decay",
    "layer_decay": "optim.layer_decay",
    "filter_bias_and_bn": "optim.no_decay",
    "layer_decay_min_scale": "optim.layer_decay",
    "layer_decay_no_opt_scale": "optim.layer_decay",
    "param_group_fn": "optim.no_decay",
}
_LOOKAHEAD = "lookahead_"
_REFUSALS = (TypeError, ValueError, AssertionError, ImportError, RuntimeError)
_SIDE = 64  # of the weight by which `moments_per_parameter` measures


def create_timms_optimizer(config: OptimConfig, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """timm's optimiser of parameter groups, as its create_optimizer_v2 makes it, with optim.options as further arguments.

    Without options the moments' decay rates and epsilon are those that timm has for the optimiser. lr: the peak, from which
    those with corrected weight decay take their measure. Kron draws random numbers: here always from its own generator, which
    is the same on all ranks and part of its state.

    Raises UserError for a name that timm lacks, with the nearest; for one that needs the loss anew or gradients of
    gradients; for options of the other optimisers; and for options that timm's does not take.
    """
    name = config.name.removeprefix(TIMM_PREFIX).lower()
    _check_name(config.name, name)
    _check_options(config)
    options = {key: value for key, value in config.options.items() if key not in FALLBACK_OPTIONS}
    is_kron = get_optimizer_info(name.removeprefix(_LOOKAHEAD)).name.startswith("kron")
    if is_kron and not options.setdefault("deterministic", True):
        raise UserError(
            f"optim.options: deterministic=false: {config.name} would draw other numbers on each rank; leave it out"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "It is highly recommended to have 'opt_einsum'")  # which changes no result
            optimizer: torch.optim.Optimizer = create_optimizer_v2(groups, name, lr=lr, **options)
    except _REFUSALS as error:
        wanted = ", ".join(f"{key}={value}" for key, value in config.options.items()) or "its defaults"
        raise UserError(f"optim.name={config.name}: timm cannot build it with {wanted}: {error}") from error
    return optimizer


def _check_name(given: str, name: str) -> None:
    names = list_optimizers()
    base = name.removeprefix(_LOOKAHEAD)
    if base not in names:
        near = ", ".join(TIMM_PREFIX + one for one in get_close_matches(base, names, 3, cutoff=0))
        raise UserError(f"optim.name={given}: timm {timm.__version__} has no such optimiser; nearest: {near}")
    if get_optimizer_info(base).second_order:
        raise UserError(
            f"optim.name={given}: needs gradients of gradients, which this trainer does not compute; want another one"
        )


def _check_options(config: OptimConfig) -> None:
    """Raises UserError for options that would do nothing, or that have a place of their own."""
    default = OptimConfig()
    for name in ("betas", "eps", "momentum", "nesterov"):
        if getattr(config, name) != getattr(default, name):
            raise UserError(
                f"optim.{name}={getattr(config, name)}: is for adamw, sgd and lamb; {config.name} wants it in optim.options"
            )
    for name in _OF_GROUPS.keys() & config.options.keys():
        raise UserError(f"optim.options: {name}={config.options[name]}: want {_OF_GROUPS[name]} instead")


def moments_per_parameter(config: OptimConfig) -> float:
    """Numbers that the optimiser keeps beside each of a square weight, measured by steps on a small one.

    An estimate for a model: optimisers treat vectors and oblong weights differently. Kron keeps two matrices for a weight.
    """
    weight = torch.nn.Parameter(torch.ones(_SIDE, _SIDE))
    groups = [{"params": [weight], "weight_decay": 0.0, "lr_scale": 1.0}]
    optimizer = create_timms_optimizer(config, groups, 1e-3)
    weight.grad = torch.ones_like(weight)
    with torch.random.fork_rng(devices=()), torch.compiler.set_stance("force_eager"):
        for _ in range(optimizer.param_groups[0].get("lookahead_k", 1)):  # Lookahead's own copy comes last
            optimizer.step()
    return sum(tensor.nbytes for tensor in _tensors(optimizer.state_dict()["state"])) / weight.nbytes


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(value)
