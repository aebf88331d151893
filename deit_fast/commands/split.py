"""`deit-fast split`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.data.regroup.split import split_betons

    return split_betons(call.config.split)


COMMAND = Command(
    "divide a beton into shards, without decoding", takes=("split",), run=_run, positional="split.betons", prints_result=False
)
