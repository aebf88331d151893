"""Chooses the folder of a run: the one in run.dir, or a new one that no other run has."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deit_fast.config import RunConfig, UserError
from deit_fast.train.dist import World

_RUNS = Path("runs")


@contextlib.contextmanager
def folder_of_run(config: RunConfig, world: World) -> Iterator[Path]:
    """The folder of a run, the same on every rank: run.dir, or if that is empty a new one, runs/NAME-DATE-TIME.

    Rank 0 makes a new one at once, so that runs that start in the same second get different ones, and removes it at the end
    if it is still empty. Raises UserError on every rank if it cannot be made.
    """
    if config.run.dir:
        yield Path(config.run.dir)
        return
    made = world.only_on_main(lambda: _new_folder(f"{config.model.name}-{datetime.now():%Y%m%d-%H%M%S}"))
    folder: Path = world.gather(made)[0]
    try:
        yield folder
    finally:
        if world.is_main:
            with contextlib.suppress(OSError):  # of a folder that is not empty
                folder.rmdir()


def _new_folder(name: str) -> Path:
    """Makes runs/NAME or, if that exists, the first of runs/NAME-2, runs/NAME-3, ... that does not."""
    for number in itertools.count(1):
        folder = _RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not _RUNS.is_dir():
                raise UserError(f"{_RUNS}: is not a folder, and runs go there; choose a --run.dir") from None
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose a --run.dir") from None
        else:
            return folder
    raise AssertionError("the numbers have no end")
