"""`deit-fast subset`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.data.regroup.subset import subset_betons

    return subset_betons(call.config.subset)


COMMAND = Command(
    "keep some classes, listed images or a share of a beton, without decoding",
    takes=("subset",),
    run=_run,
    positional="subset.betons",
    prints_result=False,
)
