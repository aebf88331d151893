"""`deit-fast report`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.report import write_report

    return write_report(call.config.report)


COMMAND = Command(
    "write a page about finished runs", takes=("report",), run=_run, positional="report.runs", prints_result=False
)
