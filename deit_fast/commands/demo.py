"""`deit-fast demo`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.demo import demo

    return demo(call.config.demo)


COMMAND = Command(
    "train a small DeiT on scikit-learn's digits or on crops of photographs, from image folder to report",
    takes=("demo",),
    run=_run,
    prints_result=False,
)
