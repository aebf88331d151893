"""`deit-fast filter`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.data.regroup.filter import filter_betons

    return filter_betons(call.config.filter)


COMMAND = Command(
    "keep or drop the images of a beton that meet conditions, without decoding",
    takes=("filter",),
    run=_run,
    positional="filter.betons",
    prints_result=False,
)
