"""Loads a file of weights into a model, and adapts the weights where the two differ."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import clean_state_dict
from torch import nn

from deit_fast.config import UserError
from deit_fast.model.heads import head_tensors, is_distilled
from deit_fast.model.positions import Grid, grid_name, grid_of, interpolate_positions

Weights = dict[str, torch.Tensor]

_KEYS = {"model": ("state_dict", "model"), "ema": ("state_dict_ema", "model_ema")}  # timm's name, DeiT's name
_PARALLEL = re.compile(r"(?<=\d)\.(?:gamma_(?P<gamma>[12](?:_1)?)$|(?P<part>norm[12]1?|attn1?|mlp1?)\.)")
_NUM_NAMED = 3  # number of names in an error


def weights_of(content: Mapping[str, Any], which: str, *, path: Path | str) -> Weights:
    """The state dict in a file of weights: from deit_fast, timm or DeiT's code, or a state dict itself.

    which: model, ema (the moving average), or auto: the better of the two in a checkpoint of deit_fast, else the model's.
    Names lose the prefixes of DistributedDataParallel and torch.compile. Raises UserError if there are no such weights.
    """
    if which == "auto":
        which = "ema" if content.get("best_weights") == "ema" else "model"
    found = next((content[key] for key in _KEYS[which] if isinstance(content.get(key), Mapping)), None)
    if found is None and which == "ema":
        raise UserError(f"weights {path}: hold no moving average; want the weights auto or model, not ema")
    if found is None:
        found = content
    if not found or not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()):
        names = ", ".join(map(str, list(content)[:_NUM_NAMED])) or "nothing"
        raise UserError(
            f"weights {path}: want a dictionary of tensors, itself or under state_dict or model; got one that holds {names}"
        )
    return dict(clean_state_dict(dict(found)))


def fit_weights(model: nn.Module, weights: Weights, *, path: Path | str, grid: Grid | None = None) -> list[str]:
    """Copies weights into a timm model that may have another resolution, number of classes or kind of heads; in place.

    - timm's own function for the architecture turns names of older or other code into today's.
    - Position embeddings of another grid are interpolated (see positions). grid: the grid that the weights' positions fill
      row by row; by default the model's own if the number is the same, else a square.
    - A head that the weights lack, or have for another number of classes, keeps the model's values.
    - If only the model has a distillation token, the token, its position and its head keep the model's values. If only the
      weights have one, the model takes the rest.

    Returns a line for each adaptation ("positions 14x14 -> 24x24", "new head for 10 classes"); none if the weights simply
    fit. Raises UserError, and leaves the model unchanged, for patches of another size, and for tensors that are missing,
    unknown to the model or of another shape, with the first few names.
    """
    own = model.state_dict()
    of_heads = head_tensors(model)
    fitted = _todays_names(model, weights, path, of_heads)
    lines: list[str] = []
    if "pos_embed" in fitted and "pos_embed" in own:
        fitted["pos_embed"], lines = _fit_positions(model, fitted, path, grid)
    new = _fit_distillation(model, fitted, lines)
    heads = {_layer(name): name for name in reversed(of_heads) if name not in new}  # the first tensor of each head: its weight
    if any(_num_rows(fitted, name) != _num_rows(own, name) for name in heads.values()):
        new |= set(of_heads)
        fitted = {name: fitted[name] for name in fitted if name not in new}
        names = " and ".join(reversed(heads))
        lines.append(f"new {names} for {_num_rows(own, of_heads[0])} classes")
    _check_names(own.keys() - fitted.keys() - new, "lacks what the model has", path)
    _check_names(fitted.keys() - own.keys(), "holds what the model has not", path)
    _check_names(
        (f"{name} {tuple(fitted[name].shape)}, not {tuple(own[name].shape)}" for name in fitted if _differ(fitted, own, name)),
        "of other shapes than the model's",
        path,
    )
    model.load_state_dict({**own, **fitted})
    return lines


def num_classes_of(model: nn.Module, weights: Weights, *, path: Path | str) -> int | None:
    """Number of classes of weights for a timm model; None if they have no head."""
    of_heads = head_tensors(model)
    return _num_rows(_todays_names(model, weights, path, of_heads), of_heads[0]) if of_heads else None


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _num_rows(weights: Mapping[str, torch.Tensor], name: str) -> int | None:
    tensor = weights.get(name)
    return None if tensor is None or tensor.ndim == 0 else tensor.shape[0]


def _todays_names(model: nn.Module, weights: Weights, path: Path | str, of_heads: Collection[str]) -> Weights:
    """Weights with the names of timm's model, and its shapes as far as timm's function for the architecture adapts them, such
    as tables of relative positions. Positions that we interpolate bypass it: it would interpolate them in its own way."""
    _check_stem(model, weights, path)
    own = model.state_dict()
    ours = {"pos_embed"} if _grid(model) is not None else set()
    if weights.keys() == own.keys() and not any(_differ(weights, own, name) for name in own.keys() - ours - set(of_heads)):
        return dict(weights)
    rename = _renaming(model)
    positions = {name: weights[name] for name in weights if name in ours}
    others = {name: weights[name] for name in weights if name not in positions}
    try:
        return {**rename(_parallel_names(others)), **positions}
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UserError(f"weights {path}: are none of {type(model).__name__}, as far as timm can tell ({error})") from error


def _parallel_names(weights: Weights) -> Weights:
    """timm's names for the parallel blocks of DeiT's code (models_v2.py), which numbers the second half's parts."""
    if not any(".norm11." in name for name in weights):
        return weights
    return {_PARALLEL.sub(_parallel_name, name): weights[name] for name in weights}


def _parallel_name(match: re.Match[str]) -> str:
    part, gamma = match["part"], match["gamma"]
    if gamma:
        first, _, second = gamma.partition("_")
        return f".{'attns' if first == '1' else 'ffns'}.{second or 0}.ls.gamma"
    kind, digits = part.rstrip("0123456789"), part.lstrip("abcdefghijklmnopqrstuvwxyz")
    if kind == "norm":  # norm1 and norm11 before attention, norm2 and norm21 before the MLPs
        return f".{'attns' if digits[0] == '1' else 'ffns'}.{digits[1:] or 0}.norm."
    return f".{'attns' if kind == 'attn' else 'ffns'}.{digits or 0}.{kind}."


def _renaming(model: nn.Module) -> Callable[[Weights], Weights]:
    """timm's function from older and foreign names to today's, found in the module of the model's class."""
    module = sys.modules[type(model).__module__]
    rename = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
    if rename is None:
        return dict
    parameters = inspect.signature(rename).parameters
    options: dict[str, Any] = {"model": model} if "model" in parameters else {}
    if "adapt_layer_scale" in parameters:  # DeiT III's gamma_1 is timm's ls1.gamma
        options["adapt_layer_scale"] = True
    return lambda weights: dict(rename(weights, **options))


def _check_stem(model: nn.Module, weights: Weights, path: Path | str) -> None:
    name, of_hmlp = "patch_embed.proj.weight", "patch_embed.proj.0.weight"
    state = model.state_dict()
    if of_hmlp in state and name in weights:
        raise UserError(f"weights {path}: have no hMLP stem, the model has; want model.options without embed_layer=hmlp")
    if name in state and of_hmlp in weights:
        raise UserError(f"weights {path}: have an hMLP stem, the model not; want model.options with embed_layer=hmlp")
    own, theirs = state.get(name), weights.get(name)
    if own is None or theirs is None or theirs.ndim != 4 or own.shape[2:] == theirs.shape[2:]:
        return
    (height, width), (own_height, own_width) = theirs.shape[2:], own.shape[2:]
    raise UserError(
        f"weights {path}: are for patches of {height}x{width} pixels, the model's have {own_height}x{own_width}; "
        "choose an architecture with the same patches"
    )


def _grid(model: nn.Module) -> Grid | None:
    """The grid of patches that a model's position embeddings fill row by row, if the model states one."""
    grid: Any = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return None if grid is None else (int(grid[0]), int(grid[1]))


def _fit_positions(model: nn.Module, weights: Weights, path: Path | str, grid: Grid | None) -> tuple[torch.Tensor, list[str]]:
    """The weights' position embeddings on the model's grid and with its prefix tokens, and lines that say what changed."""
    own, theirs = model.state_dict()["pos_embed"], weights["pos_embed"]
    new_grid = _grid(model)
    if new_grid is None or own.ndim != 3 or theirs.ndim != 3 or own.shape[2] != theirs.shape[2]:
        return theirs, []  # the check of shapes decides
    num_prefix = own.shape[1] - new_grid[0] * new_grid[1]  # 0 if class tokens have no position (DeiT III, CaiT)
    if num_prefix and is_distilled(model) and "dist_token" not in weights:
        theirs = torch.cat([theirs[:, :1], own[:, 1:2].to(theirs), theirs[:, 1:]], dim=1)
    elif num_prefix and not is_distilled(model) and "dist_token" in weights:
        theirs = torch.cat([theirs[:, :1], theirs[:, 2:]], dim=1)
    num_patches = theirs.shape[1] - num_prefix
    if grid is None:
        try:
            grid = new_grid if theirs.shape[1] == own.shape[1] else grid_of(num_patches)
        except UserError as error:
            raise UserError(f"weights {path}: {error}") from error
    if grid[0] * grid[1] != num_patches:
        raise UserError(f"weights {path}: hold positions of {num_patches} patches; want {grid_name(grid)}")
    lines = [] if grid == new_grid else [f"positions {grid_name(grid)} -> {grid_name(new_grid)}"]
    return interpolate_positions(theirs, num_prefix, grid, new_grid), lines


def _fit_distillation(model: nn.Module, weights: Weights, lines: list[str]) -> set[str]:
    """Names of token and head that only the model has, which stay new; drops those that only the weights have."""
    names = ("dist_token", "head_dist.weight", "head_dist.bias")
    if is_distilled(model) and "dist_token" not in weights:
        lines.append("new distillation token and head")
        return set(names)
    if not is_distilled(model) and "dist_token" in weights:
        for name in names:
            weights.pop(name, None)
        lines.append("distillation token and head left out")
    return set()


def _differ(weights: Weights, own: Mapping[str, torch.Tensor], name: str) -> bool:
    return name in own and weights[name].shape != own[name].shape


def _check_names(names: Iterable[str], what: str, path: Path | str) -> None:
    """Raises UserError if there are any names, with the first few of them."""
    found = sorted(names)
    if found:
        more = f" and {len(found) - _NUM_NAMED} more" if len(found) > _NUM_NAMED else ""
        raise UserError(f"weights {path}: do not fit the model: {what}: {'; '.join(found[:_NUM_NAMED])}{more}")
