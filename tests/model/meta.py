"""Models whose weights have shapes and no values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_DRAWING = {"uniform_", "normal_", "erfinv_", "clamp_", "mul_", "add_", "zero_", "fill_"}


class _DrawsNothing(TorchFunctionMode):
    """What initialises a tensor in place leaves it as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if args and getattr(func, "__name__", "") in _DRAWING else func(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Tensors are made on the meta device, and not initialised: there that has no effect, but takes most of the time."""
    with torch.device("meta"), _DrawsNothing():
        yield
