"""Measures the peak rates of a device: bytes per second, multiply-adds per second, copies from the host."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

_BANDWIDTH_BYTES = {"cuda": 2 << 30, "cpu": 64 << 20}
_TRANSFER_BYTES = 256 << 20
_MATRIX_SIDE = {"cuda": 8192, "cpu": 512}


def median_seconds(work: Callable[[], object], device: torch.device, *, repeats: int = 10, warm_up: int = 3) -> float:
    """Median time of a call on the device's current stream: between CUDA events there, by the host's clock on a CPU.

    All calls are queued before any is waited for, so that on CUDA the host's part of a call does not count, as long as
    the device has work.
    """
    for _ in range(warm_up):
        work()
    if device.type != "cuda":
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize(device)
    return statistics.median(before.elapsed_time(after) / 1e3 for before, after in itertools.pairwise(events))


def ceilings(device: torch.device) -> dict[str, Any]:
    """bytes_per_second: read and written by a copy of more than the caches hold, both counted. multiply_adds_per_second: of
    bfloat16 matrices. host_bytes_per_second: from pinned memory to the device; None on a CPU."""
    num_bytes, side = _BANDWIDTH_BYTES[device.type], _MATRIX_SIDE[device.type]
    matrices = [torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(3)]
    matrix_seconds = median_seconds(lambda: torch.mm(matrices[0], matrices[1], out=matrices[2]), device)
    host_rate = None
    if device.type == "cuda":
        pinned = torch.empty(_TRANSFER_BYTES, dtype=torch.uint8, pin_memory=True)
        host_rate = _TRANSFER_BYTES / _copy_seconds(pinned, device)
    copy_seconds = _copy_seconds(torch.empty(num_bytes, dtype=torch.uint8, device=device), device)
    return {
        "bytes_per_second": 2 * num_bytes / copy_seconds,
        "multiply_adds_per_second": side**3 / matrix_seconds,
        "host_bytes_per_second": host_rate,
    }


def _copy_seconds(source: torch.Tensor, device: torch.device) -> float:
    target = torch.empty_like(source, device=device, pin_memory=False)
    return median_seconds(lambda: target.copy_(source, non_blocking=True), device)
