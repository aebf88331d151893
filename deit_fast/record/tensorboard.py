"""Writes the events of a run as TensorBoard event files, also across resumed sessions."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from deit_fast.config import UserError
from deit_fast.output import droppable_output

FOLDER = "tensorboard"  # in the folder of a run


def check_tensorboard() -> None:
    """Raises UserError where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError("run.tensorboard: TensorBoard is not installed; run pip install tensorboard, or leave it off") from None


class TensorBoard:
    """Writes the numbers of events as TensorBoard's scalars, each at its global step.

    Global steps count from 0 over the whole run. Numbers of an epoch stand at its last step. The files are opened by
    the first `start` event, which says where the session goes on: TensorBoard then drops what an earlier one wrote of the
    steps from there on.

    A full disk ends these curves, with one line on stderr, and not the run, whose log has the same numbers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._steps_per_epoch = 1

    def write(self, event: str, **fields: Any) -> None:
        """Writes the scalars of an event, if it has any."""
        try:
            if event == "start":
                self._start(fields)
            elif self._writer is not None and event in ("step", "epoch", "eval"):
                step = fields["step"] if event == "step" else (fields["epoch"] + 1) * self._steps_per_epoch - 1
                for tag, value in scalars(event, fields).items():
                    self._writer.add_scalar(tag, value, step)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Writes what is left and closes the files; a second time does nothing."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            self._give_up(error)
        self._writer = None

    def _start(self, fields: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self._steps_per_epoch = fields["steps_per_epoch"]
        first_step = fields["epoch"] * self._steps_per_epoch + fields.get("step", 0)
        self._writer = SummaryWriter(str(self._folder), purge_step=first_step)

    @droppable_output()
    def _give_up(self, error: OSError) -> None:
        self._writer = None
        print(f"deit-fast: {self._folder}: TensorBoard's events are no longer written ({error.strerror})", file=sys.stderr)


def scalars(event: str, fields: dict[str, Any]) -> dict[str, float]:
    """TensorBoard's scalars of a `step`, `epoch` or `eval` event by their tags; only what the event has and is finite."""
    if event == "step":
        found = {f"train/{name}": fields.get(name) for name in ("loss", "lr", "top1")}
    elif event == "eval":
        found = {f"eval/{name}/{fields['weights']}": fields.get(name) for name in ("top1", "top5", "loss")}
    else:
        found = {"train/images_per_second": fields.get("images_per_second")}
        for group in ("seconds", "queue", "loader_seconds"):
            found |= {f"{group}/{name}": value for name, value in fields.get(group, {}).items()}
    return {tag: float(value) for tag, value in found.items() if value is not None and math.isfinite(value)}
