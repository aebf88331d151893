"""Takes what was read, gives the tables of the report, and the rows of its CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deit_fast.record.clock import KINDS
from deit_fast.record.runs import by_dotted_name, duration
from deit_fast.report.inputs import BenchResult, Inputs, ReportedRun
from deit_fast.report.published import PublishedFigure
from deit_fast.report.render import short
from deit_fast.report.tables import NONE, Cell, Table, dollars, number, percent, text

_LONGEST = 300  # characters of a result of bench


def run_cells(one: ReportedRun) -> tuple[Cell, Cell]:
    """The first cells of a run's row: its number, by which figures call it, and its name."""
    return Cell(str(one.place), one.place), text(one.name, "name")


def time_cell(seconds: float | None, mark: str = "") -> Cell:
    """A cell of a length of time."""
    return Cell(duration(seconds), seconds, mark)


def off_cell(off: float | None) -> Cell:
    """A cell of how far an actual time was off the predicted one: 0.1 is 10 % more."""
    return Cell(NONE if off is None else f"{100 * off:+.1f} %", off)


def state_cell(one: ReportedRun, inputs: Inputs) -> Cell:
    """Whether the run came to its end."""
    if one.numbers["finished"]:
        return text(one.numbers["state"])
    return text("failed" if one.run.folder in {point.folder for point in inputs.failed} else "unfinished", "bad")


def runs_table(inputs: Inputs) -> Table:
    """A row for each run, with what it reached and what it took."""
    columns = (
        "#",
        "Run",
        "Top-1",
        "Images/s",
        "Wall time",
        "Cost",
        "Predicted",
        "Off",
        "State",
        "Epochs",
        "Raw",
        "EMA",
        "Model",
    )
    rows = []
    for one in inputs.runs:
        numbers = one.numbers
        rows.append(
            (
                *run_cells(one),
                percent(numbers["top1"], "strong"),
                number(numbers["images_per_second"]),
                time_cell(numbers["wall_seconds"]),
                dollars(numbers["dollars"]),
                time_cell(numbers["predicted_seconds"]),
                off_cell(numbers["off"]),
                state_cell(one, inputs),
                Cell(f"{numbers['epochs_done']} of {numbers['epochs']}", numbers["epochs_done"]),
                percent(numbers["top1_model"]),
                percent(numbers["top1_ema"]),
                text(numbers["model"]),
            )
        )
    note = (
        "Top-1: best evaluation, of the better weights and of each. Images/s: training, median of epochs. Off: actual wall "
        "time less the predicted, as a share of that. An unfinished run has the time of its epochs."
    )
    return Table("Runs", columns, rows, note)


def csv_rows(inputs: Inputs) -> list[dict[str, Any]]:
    """The numbers of each run, by dotted name."""
    rows = []
    for one in inputs.runs:
        numbers = {name: value for name, value in one.numbers.items() if name not in ("prediction", "name")}
        rows.append({"place": one.place, "name": one.name} | by_dotted_name(numbers))
        rows[-1] |= by_dotted_name({"predicted": (one.numbers["prediction"] or {}).get("seconds", {})})
    return rows


def failed_table(inputs: Inputs) -> Table | None:
    """Points of sweeps that failed, with their errors."""
    rows = []
    for point in inputs.failed:
        options = ", ".join(f"{name}={value}" for name, value in point.options.items())
        rows.append((text(point.name, "name"), text(point.sweep), text(options), text(point.error, "bad long")))
    return Table("Failed points", ("Point", "Sweep", "Options", "Error"), rows) if rows else None


def time_table(inputs: Inputs) -> Table | None:
    """Seconds by kind of each run."""
    rows = [
        (*run_cells(one), *(time_cell(seconds) for seconds in _by_kind(one)), time_cell(one.numbers["wall_seconds"]))
        for one in inputs.runs
    ]
    return (
        Table("Where the time went", ("#", "Run", *(kind.replace("_", " ") for kind in KINDS), "sum"), rows) if rows else None
    )


def _by_kind(one: ReportedRun) -> list[float]:
    return [one.numbers["seconds"][kind] or 0.0 for kind in KINDS]


def prediction_table(inputs: Inputs) -> Table | None:
    """Predicted and actual time of each run that was predicted: the sum with its interval, and each kind."""
    rows = []
    for one in inputs.runs:
        prediction = one.numbers["prediction"]
        if not prediction:
            continue
        low, high, actual = prediction.get("low"), prediction.get("high"), one.numbers["wall_seconds"]
        inside = low is not None and high is not None and actual is not None and low <= actual <= high
        kinds = []
        for kind, seconds in zip(KINDS, _by_kind(one), strict=True):
            expected = prediction["seconds"].get(kind) or 0.0
            kinds.append(Cell(f"{duration(expected)} / {duration(seconds)}", seconds - expected))
        rows.append(
            (
                *run_cells(one),
                time_cell(one.numbers["predicted_seconds"]),
                Cell(f"{duration(low)} to {duration(high)}", low),
                time_cell(actual),
                off_cell(one.numbers["off"]),
                text("yes" if inside else "no", "" if inside else "bad"),
                text(prediction.get("source")),
                *kinds,
            )
        )
    columns = (
        "#",
        "Run",
        "Predicted",
        "Interval",
        "Actual",
        "Off",
        "Inside",
        "Made from",
        *(k.replace("_", " ") for k in KINDS),
    )
    note = "Kinds: predicted / actual, sorted by their difference. The interval is meant to hold 19 runs of 20."
    return Table("Predicted and actual", columns, rows, note) if rows else None


def inference_table(inputs: Inputs) -> Table | None:
    """Measured inference throughput: a row for each model, precision and batch size."""
    rows = []
    for row in (row for bench in inputs.benches for row in bench.rows):
        rate = row.get("images_per_second") or {}
        spread = [rate.get(name) for name in ("min", "max")]
        shown = " to ".join(number(value).text for value in spread) if None not in spread else row.get("reason")
        rows.append(
            (
                text(row["model"], "name"),
                text(row["precision"]),
                Cell(str(row["batch_size"] or "largest"), row["batch_size"]),
                number(rate.get("median")),
                text(shown, "" if None not in spread else "bad long"),
                number(row.get("num_parameters")),
                number(row.get("resolution")),
            )
        )
    columns = ("Model", "Precision", "Batch", "Images/s", "Range", "Parameters", "Resolution")
    return Table("Inference throughput", columns, rows) if rows else None


def published_table(figures: Sequence[PublishedFigure]) -> Table | None:
    """Figures of others, with their sources."""
    rows = []
    for one in figures:
        hours = None if one.hours is None else one.hours * 3600
        rows.append(
            (
                text(one.name, "name published"),
                percent(one.top1, "published"),
                number(one.images_per_second, "published"),
                time_cell(hours, "published"),
                number(one.epochs, "published"),
                number(one.resolution, "published"),
                text(one.machine, "published"),
                text(one.source, "published"),
            )
        )
    columns = ("Published", "Top-1", "Inference images/s", "Training", "Epochs", "Resolution", "Machine", "Source")
    note = "Not measured here: figures of others, of ImageNet-1k, on the machines that are named."
    return Table("Published figures", columns, rows, note) if rows else None


def bench_facts(bench: BenchResult) -> dict[str, Any]:
    """The results of a bench other than eval, by dotted name; without its configuration and its single rounds."""
    left_out = ("config", "rounds", "versions")
    content = {name: value for name, value in bench.content.items() if name not in left_out}
    flat = by_dotted_name(_as_dicts(content))
    return {name: short(str(value), _LONGEST) for name, value in flat.items() if not name.endswith(".rounds")}


def _as_dicts(value: Any) -> Any:
    """Nested values with lists of dictionaries as dictionaries by number, from 1."""
    if isinstance(value, dict):
        return {str(name): _as_dicts(item) for name, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return {str(place): _as_dicts(item) for place, item in enumerate(value, start=1)}
    return value
