"""The commands, by name: a file each, which declares a command and imports what it runs only when it runs."""

from __future__ import annotations

from importlib import import_module

from deit_fast.commands.command import Call, Command, Group

__all__ = ["COMMANDS", "Call", "Command", "Group"]

# in the order of `deit-fast --help`
_NAMES = (
    *("write", "inspect", "verify", "merge", "split", "subset", "filter"),
    *("views", "train", "teach", "plan", "eval", "analyse", "export", "predict", "bench", "sweep", "report", "demo"),
)
COMMANDS: dict[str, Command | Group] = {name: import_module(f"{__name__}.{name}").COMMAND for name in _NAMES}
