"""`deit-fast write`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.data.convert.write import write_beton

    return write_beton(call.config.source, call.config.write)


COMMAND = Command(
    "convert a data set into a beton",
    takes=("source", "write"),
    run=_run,
    usual=(
        *of("source", "path", "kind", "split", "subset"),
        *of("write", "out", "mode", "max_resolution", "shards", "shard_gb", "only", "on_error", "num_workers", "resume"),
    ),
    short={"resume": "write.resume"},
    prints_result=False,
)
