"""What differs between runs: ingredients left out, as in the paper's Table 8, and all options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deit_fast.config import in_words
from deit_fast.record.runs import by_dotted_name
from deit_fast.report.contents import RUN
from deit_fast.report.inputs import ReportedRun
from deit_fast.report.published import published_ablation
from deit_fast.report.tables import NONE, Cell, Column, Table, cell, make_table, percent

_OPTIMISERS = {"adamw": "AdamW", "sgd": "SGD", "lamb": "LAMB"}
# sections that say nothing about a training run are left out, and options that differ in any two runs
_SECTIONS = ("data", "augment", "model", "distil", "optim", "schedule", "train", "eval", "run", "budget")
_LEFT_OUT = ("run.dir", "run.tensorboard", "train.resume")


def ablation_table(runs: Sequence[ReportedRun], published: Sequence[str]) -> Table | None:
    """A row for each run, a column for each ingredient in which they differ; None where they differ in none.

    What all runs share is in the note. Ingredients that differ from the first row's are marked. The published rows, whose
    top-1 is that at resolution 224, are last.
    """
    rows: list[tuple[tuple[Any, Any], dict[str, Any], Cell]] = [
        ((one.place, one.name), ingredients(one.run.config), cell(one.numbers["top1"], percent, "strong")) for one in runs
    ]
    for name, values, top1 in published_ablation(published):
        rows.append(((Cell(NONE), Cell(name, None, "name published")), values, cell(top1, percent, "published")))
    differing = _differing([values for _, values, _ in rows])
    if not differing:
        return None
    first = rows[0][1]
    same = ", ".join(f"{name} {_tick(value)}" for name, value in first.items() if name not in differing)
    cells = [
        (*names, *(Cell(_tick(values[n]), None, "changed" if values[n] != first[n] else "") for n in differing), top1)
        for names, values, top1 in rows
    ]
    note = f"The same in all: {same}. " if same else ""
    note += "✓ used, ✗ not; top-1 is the best evaluation of the better weights, raw or EMA."
    return make_table("Ablation", (*RUN, *map(Column, differing), Column("Top-1")), cells, note)


def ingredients(config: dict[str, Any]) -> dict[str, Any]:
    """The columns of the paper's table for a configuration by dotted name: True, False, or the optimiser's name."""
    policy = str(config.get("augment.auto_augment") or "")
    mixes = bool(config.get("augment.mix_probability", 1))
    mixup, cutmix = bool(config.get("augment.mixup")), bool(config.get("augment.cutmix"))
    cutmix = cutmix or any(config.get("augment.cutmix_minmax") or ())
    share = config.get("augment.cutmix_probability", 0.5)  # of CutMix, where both are on
    regularised = config.get("train.mode", "train") == "train"
    name = str(config.get("optim.name"))
    return {
        "optimiser": _OPTIMISERS.get(name, name),
        "RandAugment": policy.startswith("rand"),
        "AutoAugment": policy.startswith(("original", "v0")),
        "Mixup": mixes and mixup and not (cutmix and share == 1),
        "CutMix": mixes and cutmix and not (mixup and share == 0),
        "erasing": bool(config.get("augment.erase")),
        "stochastic depth": bool(config.get("model.drop_path")) and regularised,
        "repeated augmentation": (config.get("augment.repeats") or 1) != 1,
        "dropout": bool(config.get("model.dropout")) and regularised,
        "EMA": bool(config.get("train.ema_decay")),
    }


def differences_table(runs: Sequence[ReportedRun]) -> Table | None:
    """A row for each run, a column for each option, version or machine in which they differ; None where none does."""
    compared = [_compared(one) for one in runs]
    differing = _differing(compared)
    rows = [(one.place, one.name, *(_option(of.get(n)) for n in differing)) for one, of in zip(runs, compared, strict=True)]
    title, note = "Differences in configuration", "All other options are the same in all runs."
    return make_table(title, (*RUN, *map(Column, differing)), rows, note) if differing else None


def _differing(compared: Sequence[dict[str, Any]]) -> list[str]:
    """Names under which not all have the same value."""
    names = dict.fromkeys(name for values in compared for name in values)
    return [name for name in names if len({repr(values.get(name)) for values in compared}) > 1]


def _tick(value: bool | str) -> str:
    return ("✗", "✓")[value] if isinstance(value, bool) else value


def _option(value: Any) -> Any:
    """The value of an option as a table has it."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "empty" if value == "" else value


def _compared(one: ReportedRun) -> dict[str, Any]:
    """What two runs may differ in, by dotted name; a dictionary among the options, as model.options, is taken apart."""
    config, record = one.run.config, one.run.record
    options = {n: in_words(n, config[n]) for n in config if n.partition(".")[0] in _SECTIONS and n not in _LEFT_OUT}
    machine = {name: value for name, value in (record.get("hardware") or {}).items() if name != "memory_bytes"}
    started = {name: one.run.start.get(name) for name in ("world_size", "device", "amp")}
    beside = {"machine": machine, "versions": record.get("versions") or {}, "commit": record.get("git_commit"), "on": started}
    return options | by_dotted_name(beside)
