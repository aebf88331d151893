"""Keeps plans and the outcomes of their runs in a file, and says how far predictions were off so far.

`ledger.jsonl` is in the folder that holds the folders of runs. Each line is a plan, or a finished run with its prediction and
its actual time.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_fast.config import Decides, RunConfig, UserError
from deit_fast.plan.prediction import Prediction, expected, prediction_of
from deit_fast.record.log import as_json

LEDGER = "ledger.jsonl"
_LEAST_SCATTER = 0.02  # of the logarithm of actual over predicted; a few lucky runs do not promise more
SCATTER = 0.07  # as long as there are too few runs to tell
_ENOUGH = 3
_NEWEST = 20
_CORRECTED = ("setup", "compile")  # kinds that a short measurement does not see as a run does


@dataclass(frozen=True)
class Outcome:
    """A run that finished in one session.

    actual: seconds by kind. first_epoch_extra: extra seconds of its first epoch over a later one (cold cache).
    """

    run: str
    prediction: Prediction
    actual: dict[str, float]
    first_epoch_extra: float

    @property
    def ratio(self) -> float:
        """Actual over predicted wall-clock seconds."""
        return sum(self.actual.values()) / self.prediction.wall_seconds


def machine_of(hardware: Mapping[str, Any]) -> str:
    """Identifies a machine by what decides its speed: processor, usable cores, GPUs."""
    gpus = [gpu["name"] for gpu in hardware.get("gpus") or []]
    named = [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)]
    return ", ".join([f"{hardware.get('cpu')}", f"{hardware.get('allowed_cores')} cores", *named])


def key_of(config: RunConfig, world_size: int) -> str:
    """The same for runs that take the same time on one machine: a digest of the options that decide it."""
    options = config.options_that_decide(Decides.TIME)
    text = json.dumps(as_json({**options, "world_size": world_size}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def append(folder: Path, event: str, **fields: Any) -> None:
    """Adds a line to the ledger of a folder of runs, in one write."""
    line = json.dumps(as_json({"event": event, "time": time.time(), **fields}), ensure_ascii=False)
    with (folder / LEDGER).open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


def append_plan(folder: Path, config: RunConfig, world_size: int, machine: str, prediction: Prediction) -> None:
    """Adds the prediction for a run of that configuration on a machine, for the run to find."""
    named = {"machine": machine, "key": key_of(config, world_size), "model": config.model.name, "epochs": config.train.epochs}
    append(folder, "plan", **named, prediction=prediction.as_dict())


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a folder's ledger; none if there is no file. Raises UserError, with the line, for a broken one."""
    path = folder / LEDGER
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            assert isinstance(entry, dict)
            if entry["event"] in ("plan", "run") and entry["prediction"] is not None:
                prediction_of(entry["prediction"])
                assert isinstance(entry["machine"], str)
        except (ValueError, KeyError, TypeError, AssertionError):
            raise UserError(f"{path}, line {number}: broken; mend or delete that line") from None
        entries.append(entry)
    return entries


def planned(entries: Sequence[Mapping[str, Any]], key: str, machine: str) -> Prediction | None:
    """The newest plan of runs of that key on a machine."""
    for entry in reversed(entries):
        if entry["event"] == "plan" and (entry["key"], entry["machine"]) == (key, machine):
            return prediction_of(entry["prediction"])
    return None


def outcomes(entries: Sequence[Mapping[str, Any]], machine: str) -> list[Outcome]:
    """The newest runs of a machine that were predicted by measuring and finished in one session."""
    found = []
    for entry in entries:
        if entry["event"] != "run" or entry["machine"] != machine or entry["prediction"] is None or entry["sessions"] != 1:
            continue
        prediction = prediction_of(entry["prediction"])
        if prediction.measured:
            found.append(Outcome(entry["run"], prediction, dict(entry["actual"]), entry["first_epoch_extra"]))
    return found[-_NEWEST:]


def corrected(measured: Mapping[str, float], error: float, earlier: Sequence[Outcome], source: str) -> Prediction:
    """The prediction from measured seconds by kind, corrected by the errors of earlier predictions on the machine.

    error: standard error of the sum of measured, in seconds. Set-up and compile are corrected by the median difference, waiting
    for data by the extra time of first epochs. The scatter of earlier predictions widens the interval.
    """
    seconds = dict(measured)
    if len(earlier) >= _ENOUGH:
        for kind in _CORRECTED:
            moved = statistics.median(run.actual[kind] - run.prediction.measured[kind] for run in earlier)
            seconds[kind] = max(0.0, seconds[kind] + moved)
        seconds["data_wait"] += max(0.0, statistics.median(run.first_epoch_extra for run in earlier))
    total = sum(seconds.values())
    return expected(seconds, math.hypot(error / total, scatter(earlier)), source, measured)


def scatter(earlier: Sequence[Outcome]) -> float:
    """Error of predictions: the root mean square of the logarithm of actual over predicted."""
    if len(earlier) < _ENOUGH:
        return SCATTER
    return max(_LEAST_SCATTER, math.sqrt(statistics.fmean(math.log(run.ratio) ** 2 for run in earlier)))
