"""A prediction of a run's time, as plans make it and records of runs keep it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """Wall-clock seconds that a run will take, from the creation of its process to its end.

    seconds: by kind of `record.clock.KINDS`. low, high: between which the sum is expected in 19 runs of 20. source: what it was
    made from: "plan", "budget" (measured by the run itself before it began), or "first epochs" of the run. measured: seconds
    before they were corrected by earlier runs of the machine; empty: they were not.
    """

    seconds: dict[str, float]
    low: float
    high: float
    source: str = "plan"
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def wall_seconds(self) -> float:
        """The sum of `seconds`."""
        return sum(self.seconds.values())

    def as_dict(self) -> dict[str, Any]:
        """Dictionary for `prediction` in `summary.json` and ledgers: the fields, and wall_seconds."""
        return {**asdict(self), "wall_seconds": self.wall_seconds}


def expected(
    seconds: Mapping[str, float], spread: float, source: str, measured: Mapping[str, float] | None = None
) -> Prediction:
    """The prediction of seconds by kind; spread: standard deviation of the logarithm of actual over predicted."""
    total = sum(seconds.values())
    low, high = (total * math.exp(sign * 1.96 * spread) for sign in (-1, 1))
    return Prediction(dict(seconds), low, high, source, dict(measured or {}))


def prediction_of(fields: Mapping[str, Any]) -> Prediction:
    """The Prediction from the dictionary of `as_dict`. Raises KeyError or TypeError for other dictionaries."""
    return Prediction(
        dict(fields["seconds"]), float(fields["low"]), float(fields["high"]), fields["source"], dict(fields["measured"])
    )
