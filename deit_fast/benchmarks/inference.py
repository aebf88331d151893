"""Measures images per second of a model's forward passes, by precision and batch size."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from deit_fast.benchmarks.gpu.needs import ForwardNeeds
from deit_fast.benchmarks.interleave import summary, wait_for
from deit_fast.benchmarks.step import NUM_CLASSES
from deit_fast.config import ModelConfig, RunConfig
from deit_fast.model.create import create_model
from deit_fast.model.memory_format import to_channels_last

# of weights and images; tf32: products of float32 numbers with 10 bits of their fractions
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_IMAGES = 8192  # at once, where the largest batch is looked for
_MEMORY_MARGIN = 1.5  # seen on a CPU: 0.8 to 1.4 times what is counted, with what libraries keep beside
_NUM_BEFORE = 2  # batches before the first round

Row = dict[str, Any]


class NotMeasured(Exception):
    """Why something is not measured."""


def lack_of(precision: str, device: torch.device) -> str:
    """What the device lacks for a precision; empty: nothing."""
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        return "the device has no TF32"
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "the device has no bfloat16"
    return ""


class Inference:
    """The measurements of one model, which share bench.limit_seconds."""

    def __init__(
        self, config: RunConfig, model: ModelConfig, resolution: int, needs: ForwardNeeds, device: torch.device
    ) -> None:
        self._bench, self._train = config.bench, config.train
        self._model, self._resolution, self._needs, self._device = model, resolution, needs, device
        self._seconds_left = self._bench.limit_seconds or math.inf
        self._rows_left = 0

    def rows(self, precisions: Sequence[str]) -> Iterator[Row]:
        """A row for each precision and batch size, small ones first: what was measured, or the `reason` why it was not."""
        sizes = sorted(self._bench.batch_sizes, key=lambda size: size or _MOST_IMAGES)
        self._rows_left = len(sizes) * len(precisions)
        for precision in precisions:
            with _products_of(precision):
                yield from self._rows_of(precision, sizes)

    def _rows_of(self, precision: str, sizes: list[int | None]) -> Iterator[Row]:
        network: nn.Module | None = None
        seconds_per_image = 0.0  # of the largest batch so far
        for size in sizes:
            row: Row = {"precision": precision, "batch_size": size}
            try:
                self._check_memory(precision, size)
                self._check_time(size, seconds_per_image)
                if network is None:
                    network = self._network(precision)
                row |= self._measured(network, precision, size)
                seconds_per_image = 1 / row["images_per_second"]["median"]
            except NotMeasured as error:
                row["reason"] = str(error)
            except torch.OutOfMemoryError:
                row["reason"] = "does not fit into the GPU's memory"
            except RuntimeError as error:  # an operation that is not there in this precision, a compiler that gives up
                row["reason"] = " ".join(str(error).split())[:200]
            self._rows_left -= 1
            if self._train.compile != "off":
                torch.compiler.reset()  # after some shapes PyTorch would leave the next one uncompiled
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            yield row

    def _network(self, precision: str) -> nn.Module:
        with torch.device(self._device):
            network = create_model(self._model, num_classes=NUM_CLASSES, resolution=self._resolution)
        network = network.to(self._device, PRECISIONS[precision]).eval()
        if self._train.channels_last:
            network = to_channels_last(network)
        if self._train.compile != "off":
            return torch.compile(network, mode=self._train.compile, dynamic=False)  # type: ignore[return-value]
        return network

    def _measured(self, network: nn.Module, precision: str, size: int | None) -> Row:
        if size is None:
            size = self._largest(network, precision)
        images = self._images(precision, size)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

        def seconds_of(count: int) -> float:
            wait_for(self._device)
            started = time.perf_counter()
            with torch.inference_mode():
                for _ in range(count):
                    if self._train.compile != "off":
                        torch.compiler.cudagraph_mark_step_begin()
                    network(images)
            wait_for(self._device)
            return time.perf_counter() - started

        rounds, share = self._bench.rounds, self._seconds_left / self._rows_left
        first_seconds, second_seconds = seconds_of(1), seconds_of(1)
        # compiling takes what it takes, and the limit is for what is measured
        spent = second_seconds + (first_seconds if self._train.compile == "off" else 0.0)
        a_round = min(self._bench.seconds, max(0.0, share - spent) / rounds)
        num_batches = max(1, int(a_round / second_seconds))
        seconds: list[float] = []
        while len(seconds) < rounds and (not seconds or spent + seconds[-1] <= share):
            seconds.append(seconds_of(num_batches))
            spent += seconds[-1]
        self._seconds_left -= spent
        rates = [num_batches * size / each for each in seconds]
        return {
            "batch_size": size,
            "images_per_second": summary(rates),
            "rounds": rates,
            "batches_in_a_round": num_batches,
            "first_batch_seconds": first_seconds,
            "memory_format": "channels_last" if self._train.channels_last else "contiguous",
            "peak_memory_bytes": torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None,
        }

    def _images(self, precision: str, size: int) -> torch.Tensor:
        images = torch.randn(size, 3, self._resolution, self._resolution, device=self._device)
        images = images.to(PRECISIONS[precision])
        return images.contiguous(memory_format=torch.channels_last) if self._train.channels_last else images

    def _check_memory(self, precision: str, size: int | None) -> None:
        """Raises NotMeasured if main memory would not suffice: the process would be killed, while a GPU raises an error."""
        if self._device.type == "cuda":
            return
        if size is None:
            raise NotMeasured("the largest batch is looked for in a GPU's memory alone")
        values = size * self._needs.peak_values + self._needs.num_parameters
        wanted, free = _MEMORY_MARGIN * values * PRECISIONS[precision].itemsize, free_memory_bytes()
        if wanted > free:
            raise NotMeasured(f"takes about {wanted / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free")

    def _check_time(self, size: int | None, seconds_per_image: float) -> None:
        """Raises NotMeasured if the model's time is over, or would be after the minimum number of batches of a row."""
        limit, left = self._bench.limit_seconds, max(0.0, self._seconds_left)
        if limit is None:
            return
        wanted = (_NUM_BEFORE + 1) * (size or 0) * seconds_per_image
        if not left:
            raise NotMeasured(f"no time left: bench.limit_seconds={limit:g}")
        if wanted > left:
            raise NotMeasured(f"would take about {wanted:,.0f} s, and bench.limit_seconds={limit:g} leaves {left:,.0f}")

    def _largest(self, network: nn.Module, precision: str) -> int:
        """The largest power of two that fits into the GPU's memory. Raises torch.OutOfMemoryError where not even one does."""
        network = getattr(network, "_orig_mod", network)  # compiled anew for each size, the search would take for ever
        size = 1
        while size <= _MOST_IMAGES:
            try:
                with torch.inference_mode():
                    network(self._images(precision, size))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                break
            size *= 2
        torch.cuda.empty_cache()
        return size // 2


@contextlib.contextmanager
def _products_of(precision: str) -> Iterator[None]:
    """Turns TF32 on or off for matrices and convolutions alike, for which PyTorch's defaults differ."""
    matrices, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matrices)
        torch.backends.cudnn.allow_tf32 = convolutions


def free_memory_bytes() -> int:
    """Memory that this process can still get: the machine's, or what its container leaves."""
    free: int = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        cache = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()).get(
            "inactive_file", 0
        )
        free = min(free, limit - used + int(cache))
    return free
