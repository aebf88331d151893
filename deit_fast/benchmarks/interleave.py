"""Measures several things in turns, so that all meet the same state of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import psutil
import torch

Name = TypeVar("Name")

_POLL_SECONDS = 0.1
_BUSY_SHARE = 0.15  # of one core, from which on somebody is still at work


def interleaved(measures: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, list[float]]:
    """The result of each of `measures` in each round, after one uncounted round.

    Every other round goes backwards, so that none is always measured after the same one.
    """
    figures: dict[Name, list[float]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        names = list(measures)[:: -1 if number % 2 else 1]
        for name in names:
            figure = measures[name]()
            if number > 0:
                figures[name].append(figure)
    return figures


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The smallest and the largest of the rounds, in words."""
    return f"{min(values):,.{digits}f} to {max(values):,.{digits}f}, {len(values)} round{'s' * (len(values) != 1)}"


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of the rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def wait_for(device: torch.device) -> None:
    """Waits until the device has done its queued work, so that the clock counts it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def wait_for_rest(limit_seconds: float = 60.0) -> bool:
    """Waits until this process and its children are almost idle; gives whether that happened in time.

    Loaders prepare batches ahead until their queues are full. Until then they would take cores from the next measurement.
    """
    end = time.perf_counter() + limit_seconds
    num_quiet = 0
    used, at = _cpu_seconds(), time.perf_counter()
    while time.perf_counter() < end:
        time.sleep(_POLL_SECONDS)
        used_now, now = _cpu_seconds(), time.perf_counter()
        num_quiet = num_quiet + 1 if used_now - used < _BUSY_SHARE * (now - at) else 0
        if num_quiet == 2:
            return True
        used, at = used_now, now
    return False


def _cpu_seconds() -> float:
    """CPU seconds that this process and all its descendants have used so far."""
    process = psutil.Process()
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
