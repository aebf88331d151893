"""`deit-fast teach`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.teach import teach

    return teach(call.config)


COMMAND = Command(
    "write a teacher's answers to the views of a run, once for all runs that learn from them",
    takes=(
        "teach",
        "data",
        "augment",
        *of("distil", "teacher", "teacher_weights", "teacher_options", "teacher_compile"),
        *of("train", "epochs", "seed", "device", "amp", "channels_last", "compile", "attention"),
        *("schedule.stages", "run.dollars_per_hour"),
    ),
    run=_run,
    usual=(
        *of("teach", "out", "epochs", "of", "top"),
        *of("data", "train", "batch_size", "resolution"),
        *of("distil", "teacher", "teacher_weights"),
        *of("train", "epochs", "seed", "device"),
    ),
)
