"""`deit-fast verify`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.data.examine.verify import verify_beton

    return verify_beton(call.config.verify)


COMMAND = Command(
    "check that a beton is whole, and optionally that it is its source",
    takes=("verify",),
    run=_run,
    positional="verify.beton",
    short={"against": "verify.against"},
)
