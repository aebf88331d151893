"""Stands in for CUDA's driver where there is none: what our code hands it, without a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from deit_fast.kernels.cuda import driver


@dataclass(frozen=True)
class Launch:
    """A kernel, Numba's types of its arguments, blocks, threads, stream, and what the driver found under each pointer: eight
    bytes, of which a kernel reads the first that its parameter has."""

    kernel: Any
    types: tuple[Any, ...]
    grid: tuple[int, int]
    stream: int
    words: tuple[bytes, ...]


class _Stream:
    cuda_stream, device_index = 77, 0


def stand_in(monkeypatch: pytest.MonkeyPatch, launch_kernel: Callable[..., int] | None = None) -> list[Launch]:
    """Takes CUDA's place until the test ends; gives the launches, to which more are added as they come.

    launch_kernel: called in cuLaunchKernel's place; then nothing is noted.
    """
    launches: list[Launch] = []
    loaded: list[tuple[Any, tuple[Any, ...]]] = [(None, ())]  # by the handle that was given for it

    def handle_of(kernel: Any, types: tuple[Any, ...]) -> int:
        loaded.append((kernel, types))
        return len(loaded) - 1

    def note(handle: Any, *rest: Any) -> int:
        blocks, _, _, threads, _, _, shared, stream, pointers, extra = rest
        assert shared == 0
        assert extra is None
        words = tuple(ctypes.string_at(pointer, 8) for pointer in pointers)
        kernel, types = loaded[handle.value]
        launches.append(Launch(kernel, types, (blocks, threads), stream, words))
        return 0

    monkeypatch.setattr(driver, "_handle_of", handle_of)
    monkeypatch.setattr(driver, "_launch_kernel", lambda: launch_kernel or note)
    monkeypatch.setattr(driver, "_prepared", {})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: _Stream)
    return launches
