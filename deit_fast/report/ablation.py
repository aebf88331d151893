"""Takes runs, gives the table of what was left out of which (as the paper's Table 8), and of all options that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deit_fast.record.runs import by_dotted_name
from deit_fast.report.contents import run_cells
from deit_fast.report.inputs import ReportedRun
from deit_fast.report.published import published_ablation
from deit_fast.report.tables import NONE, Cell, Table, percent, text

_OPTIMISERS = {"adamw": "AdamW", "sgd": "SGD", "lamb": "LAMB"}
# sections that say nothing about a training run, and options that differ in any two runs
_SECTIONS = ("data", "augment", "model", "distil", "optim", "schedule", "train", "eval", "run", "budget")
_LEFT_OUT = ("run.dir", "run.tensorboard", "train.resume")


def ablation_table(runs: Sequence[ReportedRun], published: Sequence[str]) -> Table | None:
    """A row for each run, a column for each ingredient in which they differ; None where they differ in none.

    What all runs share is in the note. Ingredients that differ from the first row's are marked. The published rows, whose
    top-1 is that at resolution 224, are last.
    """
    rows: list[tuple[tuple[Cell, Cell], dict[str, Any], Cell]] = []
    for one in runs:
        rows.append((run_cells(one), ingredients(one.run.config), percent(one.numbers["top1"], "strong")))
    for name, values, top1 in published_ablation(published):
        rows.append(((text(None), text(name, "name published")), values, percent(top1, "published")))
    if len(rows) < 2:
        return None
    first = rows[0][1]
    differing = [name for name in first if any(values[name] != first[name] for _, values, _ in rows)]
    if not differing:
        return None
    same = ", ".join(f"{name} {_shown(first[name])}" for name in first if name not in differing)
    cells = [
        (*names, *(Cell(_shown(values[column]), None, _mark(values, first, column)) for column in differing), top1)
        for names, values, top1 in rows
    ]
    note = f"The same in all: {same}. " if same else ""
    note += "✓ used, ✗ not; top-1 is the best evaluation of the better weights, raw or EMA."
    return Table("Ablation", ("#", "Run", *differing, "Top-1"), cells, note)


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


def _shown(value: Any) -> str:
    return ("✗", "✓")[value] if isinstance(value, bool) else str(value)


def _mark(values: dict[str, Any], first: dict[str, Any], column: str) -> str:
    return "changed" if values[column] != first[column] else ""


def differences_table(runs: Sequence[ReportedRun]) -> Table | None:
    """A row for each run, a column for each option, version or machine in which they differ; None where none does."""
    values = [_compared(one) for one in runs]
    columns = [name for name in dict.fromkeys(n for of in values for n in of) if len({repr(of.get(name)) for of in values}) > 1]
    if not columns:
        return None
    rows = [(*run_cells(one), *(_cell(of.get(name)) for name in columns)) for one, of in zip(runs, values, strict=True)]
    return Table("Differences in configuration", ("#", "Run", *columns), rows, "All other options are the same in all runs.")


def _cell(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(str(value), value) if is_number else text(_listed(value))


def _listed(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return NONE if value is None else "empty" if value == "" else str(value)


def _compared(one: ReportedRun) -> dict[str, Any]:
    """What two runs may differ in, by dotted name; a dictionary among the options, as model.options, is taken apart."""
    options = {name: value for name, value in one.run.config.items() if name.partition(".")[0] in _SECTIONS}
    options = {name: value for name, value in options.items() if name not in _LEFT_OUT}
    record = one.run.record
    machine = {name: value for name, value in (record.get("hardware") or {}).items() if name != "memory_bytes"}
    started = {name: one.run.start.get(name) for name in ("world_size", "device", "amp")}
    beside = {"machine": machine, "versions": record.get("versions") or {}, "commit": record.get("git_commit"), "on": started}
    return options | by_dotted_name(beside)
