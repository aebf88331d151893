"""Takes paths of runs, sweeps and bench results, gives what they hold, after checking that the runs belong together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deit_fast.config import UserError
from deit_fast.record.log import read_events
from deit_fast.record.run import read_json
from deit_fast.record.runs import Run, load_run, run_numbers

SWEEP, POINTS = "sweep.json", "points.jsonl"
_OPTION = re.compile(r"^(model\.name=|[a-z_]+\.(?=[a-z_]+=))")  # what a part of a sweep's name can do without
_FACTS = {"num_images": "images", "num_classes": "classes", "labels": "labels with digest"}


@dataclass(frozen=True)
class ReportedRun:
    """A run and its numbers, with the place and the name that it has on the page."""

    place: int  # 1 for the first
    name: str  # two runs of one name are told apart by the folders above theirs
    run: Run
    numbers: dict[str, Any]

    @property
    def label(self) -> str:
        """How tables and figures call it."""
        return f"{self.place} {self.name}"


@dataclass(frozen=True)
class FailedPoint:
    """A point of a sweep that has no finished run, with the last that is known of it."""

    sweep: str
    name: str
    folder: Path  # where its run is or would be
    options: dict[str, Any]
    error: str


@dataclass(frozen=True)
class BenchResult:
    """What `bench --out` wrote."""

    path: Path
    content: dict[str, Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The measurements of models' inference, with those that could not be made; empty for other kinds of bench."""
        return [*self.content["rows"], *self.content.get("skipped", ())] if self.content.get("kind") == "eval" else []


@dataclass(frozen=True)
class Inputs:
    """All that a report is about."""

    runs: list[ReportedRun] = field(default_factory=list)
    failed: list[FailedPoint] = field(default_factory=list)
    benches: list[BenchResult] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)  # a line about each


def read_inputs(paths: Sequence[str]) -> Inputs:
    """Reads folders of runs, folders with such folders in them (sweeps), and files of bench; each once, in their order.

    Raises UserError for a path that is none of these, for a run that has no events, and for runs of different datasets.
    A point of a sweep that ended before it trained is a failed point.
    """
    runs: list[Run] = []
    failed: list[FailedPoint] = []
    benches: list[BenchResult] = []
    sweeps: list[str] = []
    for path in dict.fromkeys(Path(path) for path in paths):
        if path.is_file():
            benches.append(_read_bench(path))
        elif (path / "run.json").exists() or not _is_sweep(path):
            runs.append(load_run(path))
        else:
            found, lost, line = _read_sweep(path)
            runs += found
            failed += lost
            sweeps.append(line)
    runs = list({run.folder.resolve(): run for run in runs}.values())
    check_same_dataset(runs)
    named = zip(_names(runs), runs, strict=True)
    reported = [ReportedRun(place, name, run, run_numbers(run)) for place, (name, run) in enumerate(named, start=1)]
    return Inputs(reported, failed, benches, sweeps)


def _is_sweep(folder: Path) -> bool:
    return (folder / SWEEP).is_file() or (folder.is_dir() and any(folder.glob("*/run.json")))


def _read_sweep(folder: Path) -> tuple[list[Run], list[FailedPoint], str]:
    """Runs, points that failed, and a line about the whole."""
    about = read_json(folder / SWEEP) if (folder / SWEEP).is_file() else {}
    name = str(about.get("name") or folder.absolute().name)
    points = {}  # the last attempt at each
    for event in read_events(folder / POINTS) if (folder / POINTS).is_file() else []:
        if event["event"] == "point":
            points[str(event.get("point"))] = event
    runs, failed = [], []
    folders = {file.parent.name: file.parent for file in sorted(folder.glob("*/run.json"))}
    order = [point for point in points if point in folders] + [point for point in folders if point not in points]
    for point in order:
        log = folders[point] / "log.jsonl"
        if log.is_file() and read_events(log):
            runs.append(load_run(folders[point]))
        elif point not in points:
            points[point] = {"status": "failed", "error": "ended before it trained, and left no word why"}
    for point, event in points.items():
        if event.get("status") == "failed":
            options = event.get("options")
            options = options if isinstance(options, dict) else {}
            failed.append(FailedPoint(name, point, folder / point, options, str(event.get("error") or "not known")))
    num_waiting = max(0, about["num_points"] - len({*order, *points})) if isinstance(about.get("num_points"), int) else 0
    num_finished = sum(run.end is not None for run in runs)
    counted = f"{about['num_points']} points" if isinstance(about.get("num_points"), int) else f"{len(order)} runs"
    others = len(runs) - num_finished
    line = f"{name}: {counted}, {num_finished} finished" + (f", {len(failed)} failed" if failed else "")
    line += f", {others} with a run that is unfinished" if others else ""
    return runs, failed, line + (f", {num_waiting} not begun" if num_waiting else "")


def _read_bench(path: Path) -> BenchResult:
    content = read_json(path)
    if "hardware" not in content and "kind" not in content:
        raise UserError(f"{path}: not a result of bench: want a file that `deit-fast bench --out=FILE.json` wrote")
    if content.get("kind") == "eval":
        lists = [content.get("rows"), content.get("skipped", [])]
        if not all(isinstance(rows, list) and all(map(_is_row, rows)) for rows in lists):
            raise UserError(
                f"{path}: want `rows` with model, precision, batch_size and images_per_second, as bench eval writes"
            )
    return BenchResult(path, content)


def _is_row(row: Any) -> bool:
    """Whether it is a row of bench eval; one that could not be measured has no images_per_second."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("model", "precision")):
        return False
    rate = row.get("images_per_second")
    if rate is not None and not (isinstance(rate, dict) and isinstance(rate.get("median"), int | float)):
        return False
    numbers = [row.get(name) for name in ("batch_size", "num_parameters", "resolution")]
    numbers += [(rate or {}).get(name) for name in ("min", "max")]
    return all(isinstance(value, int | float | None) for value in numbers)


def _names(runs: list[Run]) -> list[str]:
    """Names by which runs can be told apart; a name made of options, as a sweep gives it, without their sections."""
    names = [", ".join(_OPTION.sub("", part) for part in run.name.split(",")) for run in runs]
    counts = Counter(names)
    pairs = zip(names, runs, strict=True)
    return [name if counts[name] == 1 else f"{run.folder.absolute().parent.name}/{run.name}" for name, run in pairs]


def dataset_of(run: Run) -> dict[str, Any]:
    """What is known of a run's data: by "train num_images", "val labels" and the like.

    The start event's `datasets` has it. Runs that were recorded without tell the number of validation images alone.
    """
    facts: dict[str, Any] = {}
    datasets = run.start.get("datasets")
    for split, values in datasets.items() if isinstance(datasets, dict) else ():
        facts |= {f"{split} {name}": values[name] for name in _FACTS if isinstance(values, dict) and name in values}
    counts = [event["num_images"] for event in run.evals if event.get("num_images")]
    return facts if "val num_images" in facts or not counts else facts | {"val num_images": counts[-1]}


def check_same_dataset(runs: list[Run]) -> None:
    """Raises UserError for the first run whose data are known to be others than those of a run before it."""
    known: dict[str, tuple[Any, Run]] = {}
    for run in runs:
        for name, value in dataset_of(run).items():
            other, first = known.setdefault(name, (value, run))
            if value != other:
                split, _, fact = name.partition(" ")
                of_first, of_run = (_dataset_shown(one, split, fact) for one in (first, run))
                raise UserError(
                    f"{first.folder} and {run.folder} are runs of different datasets: {of_first}, and {of_run}; their figures "
                    "cannot stand in one report; want runs of one dataset"
                )


def _dataset_shown(run: Run, split: str, fact: str) -> str:
    value = dataset_of(run)[f"{split} {fact}"]
    what = f"labels with digest {str(value)[:12]}" if fact == "labels" else f"{value} {_FACTS[fact]}"
    return f"data.{split}={run.config.get(f'data.{split}')} with {what}"
