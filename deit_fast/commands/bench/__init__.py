"""`deit-fast bench KIND`: a file for each kind, by its name in `bench.kind`."""

from __future__ import annotations

from importlib import import_module
from typing import get_args, get_type_hints

from deit_fast.commands.command import Group
from deit_fast.config import BenchConfig

COMMAND = Group(
    "measure throughput of training, inference, conversion or loading, or the fidelity of views",
    positional="bench.kind",
    kinds={name: import_module(f"{__name__}.{name}").KIND for name in get_args(get_type_hints(BenchConfig)["kind"])},
)
