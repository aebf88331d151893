"""`deit-fast inspect`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.data.examine.inspect import inspect_beton

    return inspect_beton(call.config.inspect)


COMMAND = Command("say what is in a beton", takes=("inspect",), run=_run, positional="inspect.beton")
