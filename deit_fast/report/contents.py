"""The tables of the report, and the rows of its CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deit_fast.record.clock import KINDS
from deit_fast.record.runs import by_dotted_name, duration, price_words
from deit_fast.report.drawing import short
from deit_fast.report.inputs import Inputs
from deit_fast.report.published import PublishedFigure
from deit_fast.report.tables import Cell, Column, Table, difference, make_table, number, percent, share, shown
from deit_fast.report.targets import Comparison, run_columns

RUN = (Column("#"), Column("Run", mark="name"))  # the number by which figures call a run, and its name
_KINDS = tuple(kind.replace("_", " ") for kind in KINDS)
_LONGEST = 300  # characters of a result of bench


def runs_table(inputs: Inputs) -> Table | None:
    """A row for each run: accuracy, speed, time and cost."""
    columns = (
        *RUN, Column("Top-1", percent, "strong"), Column("Images/s", number), Column("Wall time", duration),
        Column("Cost", price_words), Column("Predicted", duration), Column("Off", difference), Column("State"),
        Column("Epochs"), Column("Raw", percent), Column("EMA", percent), Column("Model"),
    )  # fmt: skip
    failed = {point.folder for point in inputs.failed}
    rows = []
    for one in inputs.runs:
        numbers = one.numbers
        state = numbers["state"]
        if not numbers["finished"]:
            state = Cell("failed" if one.run.folder in failed else "unfinished", None, "bad")
        epochs = Cell(f"{numbers['epochs_done']} of {numbers['epochs']}", numbers["epochs_done"])
        names = ("top1", "images_per_second", "wall_seconds", "dollars", "predicted_seconds", "off")
        reached = (numbers["top1_model"], numbers["top1_ema"], numbers["model"])
        rows.append((one.place, one.name, *(numbers[name] for name in names), state, epochs, *reached))
    note = (
        "Top-1: best evaluation, of the better weights and of each. Images/s: training, median of epochs. Off: actual wall "
        "time less the predicted, as a share of that. An unfinished run has the time of its epochs."
    )
    return make_table("Runs", columns, rows, note)


def csv_rows(inputs: Inputs, comparison: Comparison) -> list[dict[str, Any]]:
    """The numbers of each run, by dotted name."""
    rows = []
    for one in inputs.runs:
        numbers = {name: value for name, value in one.numbers.items() if name not in ("prediction", "name")}
        predicted = (one.numbers["prediction"] or {}).get("seconds", {})
        numbers |= {"predicted": predicted} | run_columns(comparison, one)
        rows.append({"place": one.place, "name": one.name} | by_dotted_name(numbers))
    return rows


def failed_table(inputs: Inputs) -> Table | None:
    """Points of sweeps that failed, with their errors."""
    columns = (Column("Point", mark="name"), Column("Sweep"), Column("Options"), Column("Error", mark="bad long"))
    rows = [
        (point.name, point.sweep, ", ".join(f"{name}={value}" for name, value in point.options.items()), point.error)
        for point in inputs.failed
    ]
    return make_table("Failed points", columns, rows)


def time_table(inputs: Inputs) -> Table | None:
    """Seconds by kind of each run."""
    columns = (*RUN, *(Column(kind, duration) for kind in (*_KINDS, "sum")))
    rows = [
        (one.place, one.name, *(one.numbers["seconds"][kind] for kind in KINDS), one.numbers["wall_seconds"])
        for one in inputs.runs
    ]
    return make_table("Where the time went", columns, rows)


def loader_table(inputs: Inputs) -> Table | None:
    """How full each run's queue of batches was, and where its loader's thread spent its time."""
    runs = [one for one in inputs.runs if one.numbers["loader_seconds"]]
    stages = list(dict.fromkeys(stage for one in runs for stage in one.numbers["loader_seconds"]))
    columns = (*RUN, Column("Queue full", share), Column("Queue empty", share), *(Column(stage, duration) for stage in stages))
    rows = []
    for one in runs:
        numbers = one.numbers
        seconds = (numbers["loader_seconds"].get(stage) for stage in stages)
        rows.append((one.place, one.name, numbers["queue_filled"], numbers["queue_empty"], *seconds))
    note = (
        "Queue full: mean share of the batches ahead that were ready when the trainer took one. Queue empty: share of the "
        "steps at which none was. Times: of the thread that makes batches, on rank 0; queue: it waited for the trainer. A "
        "queue that is often empty means that data limit the run, and the longest of the other times is where."
    )
    return make_table("The loader's queue", columns, rows, note)


def prediction_table(inputs: Inputs) -> Table | None:
    """Predicted and actual time of each run that was predicted: the sum with its interval, and each kind."""
    columns = (
        *RUN, Column("Predicted", duration), Column("Interval"), Column("Actual", duration), Column("Off", difference),
        Column("Inside"), Column("Made from"), *map(Column, _KINDS),
    )  # fmt: skip
    rows = []
    for one in inputs.runs:
        prediction = one.numbers["prediction"]
        if not prediction:
            continue
        low, high, actual = prediction.get("low"), prediction.get("high"), one.numbers["wall_seconds"]
        is_inside = None not in (low, high, actual) and low <= actual <= high
        interval = Cell(f"{duration(low)} to {duration(high)}", low)
        inside = Cell("yes") if is_inside else Cell("no", None, "bad")
        pairs = [(prediction["seconds"].get(kind) or 0.0, one.numbers["seconds"][kind]) for kind in KINDS]
        kinds = [Cell(f"{duration(before)} / {duration(after)}", after - before) for before, after in pairs]
        expected, off = one.numbers["predicted_seconds"], one.numbers["off"]
        rows.append((one.place, one.name, expected, interval, actual, off, inside, prediction.get("source"), *kinds))
    note = "Kinds: predicted / actual, sorted by their difference. The interval is meant to hold 19 runs of 20."
    return make_table("Predicted and actual", columns, rows, note)


def inference_table(inputs: Inputs) -> Table | None:
    """Measured inference throughput: a row for each model, precision and batch size."""
    columns = (
        Column("Model", mark="name"), Column("Precision"), Column("Batch"), Column("Images/s", number), Column("Range"),
        Column("Parameters", number), Column("Resolution", number),
    )  # fmt: skip
    rows = []
    for row in inputs.inference:
        rate = row.get("images_per_second") or {}
        spread = [rate.get(name) for name in ("min", "max")]
        known = Cell(" to ".join(shown(value, number) for value in spread))
        rows.append(
            (
                row["model"], row["precision"], row["batch_size"] or Cell("largest"), rate.get("median"),
                Cell(shown(row.get("reason")), None, "bad long") if None in spread else known,
                row.get("num_parameters"), row.get("resolution"),
            )
        )  # fmt: skip
    return make_table("Inference throughput", columns, rows)


def published_table(figures: Sequence[PublishedFigure]) -> Table | None:
    """Figures of others, with their sources."""
    columns = (
        Column("Published", mark="name published"),
        *(
            Column(head, form, "published")
            for head, form in (
                ("Top-1", percent), ("Inference images/s", number), ("Training", lambda hours: duration(3600 * hours)),
                ("Epochs", number), ("Resolution", number), ("Machine", str), ("Source", str),
            )
        ),
    )  # fmt: skip
    rows = [
        (one.name, one.top1, one.images_per_second, one.hours, one.epochs, one.resolution, one.machine, one.source)
        for one in figures
    ]
    note = "Not measured here: figures of others, of ImageNet-1k, on the machines that are named."
    return make_table("Published figures", columns, rows, note)


def bench_facts(content: dict[str, Any]) -> dict[str, str]:
    """The results of a bench other than eval, by dotted name; without its configuration and its single rounds."""
    flat = by_dotted_name(_as_dicts({name: content[name] for name in content if name not in ("config", "rounds", "versions")}))
    return {name: short(str(value), _LONGEST) for name, value in flat.items() if not name.endswith(".rounds")}


def _as_dicts(value: Any) -> Any:
    """Nested values with lists of dictionaries as dictionaries by number, from 1."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = dict(enumerate(value, start=1))
    return {str(name): _as_dicts(item) for name, item in value.items()} if isinstance(value, dict) else value
