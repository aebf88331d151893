"""Measures the power that a GPU draws during a measurement, if the GPU reports it."""

from __future__ import annotations

import statistics
import threading
from types import TracebackType

import torch

_EVERY_SECONDS = 0.25


class PowerMeter:
    """While it is entered, asks a GPU for its power now and then. `watts` is the median, None where the device does not say.

    Not what the rest of the machine draws. PyTorch asks NVIDIA's management library, which nvidia-ml-py brings.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values: list[float] = []
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def watts(self) -> float | None:
        return statistics.median(self._values) if self._values else None

    def __enter__(self) -> PowerMeter:
        if self._device.type == "cuda":
            self._thread = threading.Thread(target=self._ask, name="deit_fast-power", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _ask(self) -> None:
        while not self._end.wait(_EVERY_SECONDS):
            try:
                self._values.append(torch.cuda.power_draw(self._device) / 1e3)  # of milliwatts
            except Exception:  # the library is not there, or the device does not say: whatever it raises, there is no figure
                return
