"""`deit-fast views`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.looking.views import show_views

    return show_views(call.config)


COMMAND = Command(
    "show what a configuration does to images, as a page and a contact sheet",
    takes=("views", "data", "augment", "source", "write", "train.seed"),
    run=_run,
    usual=(
        *of("views", "images", "html", "magnitudes"),
        *of("data", "train", "resolution", "eval_resolution"),
        *of("augment", "repeats", "auto_augment", "color_jitter", "crop", "erase", "mixup", "cutmix"),
        *("source.path", "source.kind", "train.seed"),
    ),
    prints_result=False,
)
