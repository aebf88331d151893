"""What a report is about: runs, sweeps and results of bench, read from their paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_fast.config import UserError
from deit_fast.record.log import read_events
from deit_fast.record.run import read_json
from deit_fast.record.runs import Run, load_run, run_numbers

_OPTION = re.compile(r"^(model\.name=|[a-z_]+\.(?=[a-z_]+=))")  # what a part of a sweep's name can do without
_FACTS = {"num_images": "{} images", "num_classes": "{} classes", "labels": "labels with digest {:.12}"}


@dataclass(frozen=True)
class ReportedRun:
    """A run, its numbers, and its place and name on the page."""

    place: int  # 1 for the first
    name: str  # two runs of one name are told apart by the folders above theirs
    run: Run
    numbers: dict[str, Any]

    @property
    def label(self) -> str:
        """Its name in legends and headings."""
        return f"{self.place} {self.name}"


@dataclass(frozen=True)
class FailedPoint:
    """A point of a sweep that failed, with its last error."""

    sweep: str
    name: str
    folder: Path  # where its run is or would be
    options: dict[str, Any]
    error: str


@dataclass(frozen=True)
class Inputs:
    """All that a report is about."""

    runs: list[ReportedRun]
    failed: list[FailedPoint]
    benches: dict[Path, dict[str, Any]]  # what `bench --out` wrote
    sweeps: list[str]  # a line about each

    @property
    def inference(self) -> list[dict[str, Any]]:
        """All measurements of models' inference."""
        return [row for content in self.benches.values() for row in inference_rows(content)]


def inference_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What a bench measured of models' inference, and what of that it could not; empty for other kinds of bench."""
    return [*content["rows"], *content.get("skipped", ())] if content.get("kind") == "eval" else []


def read_inputs(paths: Sequence[str]) -> Inputs:
    """Reads folders of runs, folders with such folders in them (sweeps), and files of bench; each once, in their order.

    Raises UserError for a path that is none of these, for a run that has no events, and for runs of different datasets.
    A point of a sweep that ended before it trained is a failed point.
    """
    runs: list[Run] = []
    failed: list[FailedPoint] = []
    benches: dict[Path, dict[str, Any]] = {}
    sweeps: list[str] = []
    for path in dict.fromkeys(Path(path) for path in paths):
        if path.is_file():
            benches[path] = _read_bench(path)
        elif not (path / "run.json").exists() and ((path / "sweep.json").is_file() or any(path.glob("*/run.json"))):
            found, lost, line = _read_sweep(path)
            runs += found
            failed += lost
            sweeps.append(line)
        else:
            runs.append(load_run(path))
    runs = list({run.folder.resolve(): run for run in runs}.values())
    _check_same_dataset(runs)
    named = enumerate(zip(_names(runs), runs, strict=True), start=1)
    return Inputs([ReportedRun(place, name, run, run_numbers(run)) for place, (name, run) in named], failed, benches, sweeps)


def _read_sweep(folder: Path) -> tuple[list[Run], list[FailedPoint], str]:
    """Runs, points that failed, and a line about the whole."""
    about, log = folder / "sweep.json", folder / "points.jsonl"
    sweep = read_json(about) if about.is_file() else {}
    name = str(sweep.get("name") or folder.absolute().name)
    events = read_events(log) if log.is_file() else []
    points = {str(event.get("point")): event for event in events if event["event"] == "point"}  # the last attempt at each
    begun = [file.parent.name for file in sorted(folder.glob("*/run.json"))]
    runs = []
    for point in [point for point in points if point in begun] + [point for point in begun if point not in points]:
        events_of_run = folder / point / "log.jsonl"
        if events_of_run.is_file() and read_events(events_of_run):
            runs.append(load_run(folder / point))
        else:
            points.setdefault(point, {"status": "failed", "error": "ended before it trained, with no error message"})
    failed = [
        FailedPoint(name, point, folder / point, event.get("options") or {}, str(event.get("error") or "not known"))
        for point, event in points.items()
        if event.get("status") == "failed"
    ]
    num_finished = sum(run.end is not None for run in runs)
    num_points = sweep.get("num_points")
    line = f"{name}: {len(begun)} runs" if num_points is None else f"{name}: {num_points} points"
    line += f", {num_finished} finished"
    counts = {"failed": len(failed), "with a run that is unfinished": len(runs) - num_finished}
    counts["not begun"] = max(0, (num_points or 0) - len({*begun, *points}))
    return runs, failed, line + "".join(f", {count} {what}" for what, count in counts.items() if count)


def _read_bench(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if "hardware" not in content and "kind" not in content:
        raise UserError(f"{path}: not a result of bench: want a file that `deit-fast bench --out=FILE.json` wrote")
    lists = [content.get("rows"), content.get("skipped", [])] if content.get("kind") == "eval" else []
    if not all(isinstance(rows, list) and all(map(_is_row, rows)) for rows in lists):
        raise UserError(f"{path}: want `rows` with model, precision, batch_size and images_per_second, as bench eval writes")
    return content


def _is_row(row: Any) -> bool:
    """Whether it is a row of bench eval; one that could not be measured has no images_per_second."""
    rate = isinstance(row, dict) and (row.get("images_per_second") or {"median": 0})
    if not isinstance(rate, dict) or not isinstance(rate.get("median"), int | float):
        return False
    numbers = [row.get(name) for name in ("batch_size", "num_parameters", "resolution")] + [rate.get("min"), rate.get("max")]
    are_names = all(isinstance(row.get(name), str) for name in ("model", "precision"))
    return are_names and all(isinstance(value, int | float | None) for value in numbers)


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
    datasets = run.start.get("datasets") or {}
    facts = {f"{split} {name}": values[name] for split, values in datasets.items() for name in _FACTS if name in values}
    counts = [event["num_images"] for event in run.evals if event.get("num_images")]
    if counts:
        facts.setdefault("val num_images", counts[-1])
    return facts


def _check_same_dataset(runs: list[Run]) -> None:
    """Raises UserError for the first run whose data are known to be others than those of a run before it."""
    known: dict[str, tuple[Run, Any]] = {}
    for run in runs:
        for name, value in dataset_of(run).items():
            first, of_first = known.setdefault(name, (run, value))
            if value == of_first:
                continue
            split, fact = name.split(" ")
            data = (
                f"data.{split}={one.config.get(f'data.{split}')} with {_FACTS[fact].format(found)}"
                for one, found in ((first, of_first), (run, value))
            )
            raise UserError(
                f"{first.folder} and {run.folder} are runs of different datasets: {', and '.join(data)}; their figures "
                "cannot stand in one report; want runs of one dataset"
            )
