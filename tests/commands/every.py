"""Every command that can run, by its words."""

from __future__ import annotations

from deit_fast.commands import COMMANDS, Command, Group


def every_command() -> dict[str, Command]:
    """Commands, and the kinds of those that have kinds: {"train": ..., "bench loader": ...}."""
    found: dict[str, Command] = {}
    for name, entry in COMMANDS.items():
        if isinstance(entry, Group):
            found |= {f"{name} {kind}": command for kind, command in entry.kinds.items()}
        else:
            found[name] = entry
    return found
