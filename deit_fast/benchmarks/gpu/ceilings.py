"""Measures the peak rates of a device: bytes per second, multiply-adds per second, copies from the host, clock."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

_BANDWIDTH_BYTES = {"cuda": 2 << 30, "cpu": 64 << 20}
_TRANSFER_BYTES = 256 << 20
_MATRIX_SIDE = {"cuda": 8192, "cpu": 512}
_CLOCK_CYCLES = 20_000_000
_FASTEST_CLOCK = 2e9  # cycles a second: of no GPU that trains is it much faster
_LONGEST_HOLD = 0.5  # seconds


@dataclass(frozen=True)
class Timed:
    """Medians over calls: `seconds` of the device, and `queue_seconds` of the host until a call is queued."""

    seconds: float
    queue_seconds: float


def timed(work: Callable[[], object], device: torch.device, *, repeats: int = 10, warm_up: int = 3) -> Timed:
    """Times a call on the device's current stream: between CUDA events there, by the host's clock on a CPU.

    The device first waits until all calls are queued: else a kernel that is shorter than its launch would be measured by it.
    """
    for _ in range(warm_up):
        work()
    if device.type != "cuda":
        seconds = statistics.median(_host_seconds(work) for _ in range(repeats))
        return Timed(seconds, seconds)
    torch.cuda.synchronize(device)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda._sleep(round(_FASTEST_CLOCK * min(_LONGEST_HOLD, 2 * (repeats + 1) * _host_seconds(work))))
    events[0].record()
    queued = []
    for event in events[1:]:
        queued.append(_host_seconds(work))
        event.record()
    torch.cuda.synchronize(device)
    apart = (before.elapsed_time(after) / 1e3 for before, after in itertools.pairwise(events))
    return Timed(statistics.median(apart), statistics.median(queued))


def _host_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median_seconds(work: Callable[[], object], device: torch.device, *, repeats: int = 10) -> float:
    """The seconds of `timed`."""
    return timed(work, device, repeats=repeats).seconds


def ceilings(device: torch.device) -> dict[str, Any]:
    """bytes_per_second: read and written by a copy of more than the caches hold, both counted. multiply_adds_per_second: of
    bfloat16 matrices. host_bytes_per_second: from pinned memory to the device; cycles_per_second: of the device's clock;
    num_multiprocessors; these are None on a CPU."""
    num_bytes, side = _BANDWIDTH_BYTES[device.type], _MATRIX_SIDE[device.type]
    matrices = [torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(3)]
    matrix_seconds = median_seconds(lambda: torch.mm(matrices[0], matrices[1], out=matrices[2]), device)
    of_cuda: dict[str, float | None] = dict.fromkeys(("host_bytes_per_second", "cycles_per_second", "num_multiprocessors"))
    if device.type == "cuda":
        pinned = torch.empty(_TRANSFER_BYTES, dtype=torch.uint8, pin_memory=True)
        spin_seconds = median_seconds(lambda: torch.cuda._sleep(_CLOCK_CYCLES), device, repeats=5)
        of_cuda = {
            "host_bytes_per_second": _TRANSFER_BYTES / _copy_seconds(pinned, device),
            "cycles_per_second": _CLOCK_CYCLES / spin_seconds,
            "num_multiprocessors": torch.cuda.get_device_properties(device).multi_processor_count,
        }
    copy_seconds = _copy_seconds(torch.empty(num_bytes, dtype=torch.uint8, device=device), device)
    return {
        "bytes_per_second": 2 * num_bytes / copy_seconds,
        "multiply_adds_per_second": side**3 / matrix_seconds,
        **of_cuda,
    }


def _copy_seconds(source: torch.Tensor, device: torch.device) -> float:
    target = torch.empty_like(source, device=device, pin_memory=False)
    return median_seconds(lambda: target.copy_(source, non_blocking=True), device)
