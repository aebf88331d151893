"""Reads the folder of a run: its log, and the numbers that sum it up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from deit_fast.config import UserError, value_now
from deit_fast.record.clock import KINDS
from deit_fast.record.log import read_events
from deit_fast.record.progress import dollars
from deit_fast.record.run import read_json, read_run

Event = dict[str, Any]

# what tells events of one sort apart: of those that agree in it, the one written last counts
IDENTITY = {
    "step": ("epoch", "step"),
    "epoch": ("epoch",),
    "eval": ("epoch", "weights"),
    "checkpoint": ("epoch", "path"),
}
WEIGHTS = ("model", "ema")
# fields of events that are drawn or reckoned with: numbers, or None where they were not finite
NUMBERS = (
    *("epoch", "step", "loss", "top1", "lr", "images_per_second", "steps_per_epoch", "wall_seconds", "num_images"),
    *("run_seconds", "time"),
)


@dataclass(frozen=True)
class Run:
    """Content of a run's folder. If a resumed session trained steps or epochs again, only their later events are kept."""

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]  # of the newest session, by dotted name
    start: Event
    steps: list[Event]
    epochs: list[Event]
    evals: list[Event]
    checkpoints: list[Event]
    end: Event | None  # its result; None: unfinished
    has_diverged: bool = False  # its last session ended because the loss was not finite

    @property
    def name(self) -> str:
        """Name of the run: that of its folder when it began."""
        return str(self.record.get("name") or self.folder.absolute().name)


def load_run(folder: Path) -> Run:
    """Reads a run's folder. Raises UserError where it is not one or has no events."""
    record = read_run(folder)
    log = folder / "log.jsonl"
    events = read_events(log)
    if not events:
        raise UserError(f"{log}: no events: the run ended before it started to train")
    start: Event = {}
    end: Event | None = None
    has_diverged = False
    kept: dict[str, dict[tuple[Any, ...], Event]] = {sort: {} for sort in IDENTITY}
    try:
        for event in events:
            sort = event["event"]
            if sort in IDENTITY:
                kept[sort][tuple(event[name] for name in IDENTITY[sort])] = event
            elif sort == "start":  # of the run, or of a session that goes on here, perhaps for a second time
                start, end, has_diverged = event, None, False
                kept = {s: {k: e for k, e in of.items() if _is_before(e, start)} for s, of in kept.items()}
            elif sort == "end":
                end = event
            elif sort == "not_finite":
                has_diverged = True
            _check_numbers(log, event)
    except KeyError as error:
        raise UserError(f"{log}: an event {sort!r} has no {error}: not a log of this version of deit_fast") from None
    summary = folder / "summary.json"
    if summary.is_file() and (end or not any(event["event"] == "end" for event in events)):
        end = read_json(summary) | (end or {})
        _check_numbers(summary, end)
    steps, epochs, evals, checkpoints = (list(of.values()) for of in kept.values())
    return Run(folder, record, _newest_config(record), start, steps, epochs, evals, checkpoints, end, has_diverged)


def _check_numbers(path: Path, event: Event) -> None:
    """Raises UserError if a field that should hold a number holds something else."""
    seconds = event.get("seconds")
    predicted = event.get("prediction")
    predicted = {"seconds": {}} if predicted is None else predicted
    nested = [seconds if seconds is not None else {}, predicted, predicted.get("seconds") if isinstance(predicted, dict) else 0]
    nested += [event.get(name, {}) for name in ("queue", "loader_seconds")]
    if all(isinstance(values, dict) for values in nested):
        numbers = [event.get(name) for name in NUMBERS] + list((seconds or {}).values())
        numbers += [value for values in nested[2:] for value in values.values()]
        numbers += [predicted.get(name) for name in ("low", "high", "wall_seconds")]
        if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in numbers):
            return
    sort = event.get("event", "end")
    raise UserError(
        f"{path}: an event {sort!r} has something else where a number is wanted: not written by this version of deit_fast"
    )


def _is_before(event: Event, start: Event) -> bool:
    """Whether an event belongs to steps before the one where a session started: an epoch, and the steps done in it."""
    epoch, steps_done = start["epoch"], start.get("step") or 0
    if event["epoch"] != epoch or not steps_done:
        earlier: bool = event["epoch"] < epoch
        return earlier
    if event["event"] == "step":  # its `step` counts from 0 over the whole run
        done: bool = event["step"] < epoch * start["steps_per_epoch"] + steps_done
        return done
    return event["event"] == "checkpoint"  # the session went on from the last one of this epoch


def run_numbers(run: Run) -> dict[str, Any]:
    """The numbers of a run as the table shows them and JSON takes them; None for what was not logged.

    `seconds` and `wall_seconds` cover all sessions of a finished run, and the epochs done of an unfinished one.
    `loader_seconds` are those of the loader's thread by stage, in its epochs; `queue_filled` and `queue_empty` are means over
    these: shares, 0 to 1, of the loader's queue that was full, and of steps at which it was empty.
    `images_per_second` is the median over epochs, which leaves out what compiling costs the first one. `train_top1` is the
    training accuracy in percent as it was last logged, and `dollars` what wall_seconds cost at run.dollars_per_hour. `top1` is
    the best evaluation of either weights, and `off` how far the wall time was off the predicted one, as a share of it.
    """
    if run.end is not None:
        seconds = run.end.get("seconds") or {}
    else:
        seconds = {kind: sum((e.get("seconds") or {}).get(kind) or 0.0 for e in run.epochs) for kind in KINDS}
    speeds = [e["images_per_second"] for e in run.epochs if e.get("images_per_second") is not None]
    checkpoints = sorted(run.checkpoints, key=lambda e: (bool(e.get("best")), e["epoch"]))
    checkpoint = (run.end or {}).get("checkpoint") or (checkpoints[-1]["path"] if checkpoints else None)
    seconds = {kind: value or 0.0 for kind, value in seconds.items()}
    wall_seconds = sum(seconds.values()) if seconds else (run.end or {}).get("wall_seconds")
    dollars_per_hour = run.config.get("run.dollars_per_hour") or 0.0
    numbers = {
        "name": run.name,
        "folder": str(run.folder),
        "finished": run.end is not None,
        "state": _state(run),
        "model": run.config.get("model.name"),
        "num_parameters": run.start.get("num_parameters"),
        "epochs": run.config.get("train.epochs"),
        "epochs_done": max((e["epoch"] + 1 for e in run.epochs), default=0),
        "images_per_second": median(speeds) if speeds else None,
        "loss": run.epochs[-1].get("loss") if run.epochs else None,
        "train_top1": _last(run.steps, "top1"),
        "wall_seconds": wall_seconds,
        "dollars": dollars(wall_seconds, dollars_per_hour) if wall_seconds and dollars_per_hour else None,
        "seconds": {kind: seconds.get(kind, 0.0) for kind in KINDS},
        "checkpoint": str(run.folder / checkpoint) if checkpoint else None,
        **_loader_numbers(run.epochs),
    }
    for weights in WEIGHTS:
        evals = [e for e in run.evals if e["weights"] == weights and e.get("top1") is not None]
        best = max(evals, key=lambda e: e["top1"], default={})
        numbers |= {f"top1_{weights}": best.get("top1"), f"top1_{weights}_epoch": best.get("epoch")}
    numbers["top1"] = max((numbers[f"top1_{w}"] for w in WEIGHTS if numbers[f"top1_{w}"] is not None), default=None)
    prediction = (run.end or {}).get("prediction") or {}
    predicted = prediction.get("wall_seconds") or None
    numbers |= {
        "prediction": prediction or None,
        "predicted_seconds": predicted,
        "off": wall_seconds / predicted - 1 if predicted and wall_seconds else None,
    }
    return numbers


def _loader_numbers(epochs: list[Event]) -> dict[str, Any]:
    """queue_filled, queue_empty and loader_seconds of epochs; None without any that has them."""
    seconds: dict[str, float] = {}
    for event in epochs:
        for stage, value in (event.get("loader_seconds") or {}).items():
            seconds[stage] = seconds.get(stage, 0.0) + (value or 0.0)
    numbers: dict[str, Any] = {"loader_seconds": seconds or None}
    for name in ("filled", "empty"):
        shares = [share for event in epochs if (share := (event.get("queue") or {}).get(name)) is not None]
        numbers[f"queue_{name}"] = sum(shares) / len(shares) if shares else None
    return numbers


def _state(run: Run) -> str:
    if run.end is None:
        return "unfinished"
    stopped = run.end.get("stopped")
    return f"ended by its {stopped}" if stopped else "finished"


def _last(events: list[Event], field: str) -> Any:
    """The newest value of a field; None if no event has one."""
    return next((e[field] for e in reversed(events) if e.get(field) is not None), None)


def _newest_config(record: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run's newest session by dotted name."""
    config = by_dotted_name(record.get("config") or {})
    changes = record["sessions"][-1].get("changes", {}) if record["sessions"] else {}
    return config | {name[7:]: value_now(name[7:], value) for name, value in changes.items() if name.startswith("config.")}


def by_dotted_name(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested dictionaries as a flat one, whose names have dots: {"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= by_dotted_name(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return flat


def duration(seconds: float | None) -> str:
    """A time as text, in the units that fit its length."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        return "{} min {:02d} s".format(*divmod(round(seconds), 60))
    return "{} h {:02d} min".format(*divmod(round(seconds / 60), 60))


def price_words(value: float) -> str:
    """An amount of money: in cents, or with two digits where it is less than ten of them."""
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"
