"""`deit-fast merge`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.data.regroup.merge import merge_betons

    return merge_betons(call.config.merge)


COMMAND = Command(
    "join betons into one, without decoding", takes=("merge",), run=_run, positional="merge.betons", prints_result=False
)
