"""Counts a run's steps, epochs, evaluations and checkpoints."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from deit_fast.config import RunConfig
from deit_fast.train import schedule
from deit_fast.train.run_folder import kept_name

Shape = tuple[int, bool]  # of training: the resolution, and whether it is the tail, with all patches


@dataclass(frozen=True)
class RunCounts:
    """Counts of a run: steps of an epoch, epochs at each resolution, evaluations, checkpoints.

    tail_at: epochs at each resolution that see all patches after those that do not (model.patch_dropout), not in epochs_at.
    """

    steps_per_epoch: int
    epochs_at: dict[int, int]
    num_evaluations: int
    num_checkpoints: int
    tail_at: dict[int, int] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return sum(self.epochs_at.values()) + sum(self.tail_at.values())


def stages_by_shape(config: RunConfig) -> dict[Shape, list[tuple[schedule.Stage, float]]]:
    """For each shape of a run's epochs the stage of the middle one of them, which stands for the others; for each of several
    betons such a one. With the share of the epochs for which it stands; the shares of a shape add up to 1."""
    found: dict[Shape, dict[str, list[schedule.Stage]]] = {}
    for epoch, stage in enumerate(schedule.stages_of(config)):
        shape = stage.resolution, is_in_tail(config, epoch)
        found.setdefault(shape, {}).setdefault(stage.betons, []).append(stage)
    return {
        shape: [(stages[len(stages) // 2], len(stages) / sum(map(len, of.values()))) for stages in of.values()]
        for shape, of in found.items()
    }


def is_in_tail(config: RunConfig, epoch: int) -> bool:
    """Whether an epoch (from 0) sees all patches after others that did not."""
    is_dropping = schedule.leaves_out_patches(config.model, epoch=epoch, epochs=config.train.epochs)
    return config.model.patch_dropout > 0 and not is_dropping


def counts_of(config: RunConfig, steps_per_epoch: int, first_epoch: int = 0) -> RunCounts:
    """Counts of a run from an epoch to its end."""
    train, epochs = config.train, config.train.epochs
    numbers = range(first_epoch + 1, epochs + 1)
    sides: Counter[int] = Counter()
    tail: Counter[int] = Counter()
    for epoch, stage in enumerate(schedule.stages_of(config)[first_epoch:], start=first_epoch):
        (tail if is_in_tail(config, epoch) else sides)[stage.resolution] += 1
    evaluations = sum(number % train.eval_every == 0 or number == epochs for number in numbers)
    checkpoints = sum(
        number % train.checkpoint_every == 0 or number == epochs or bool(kept_name(number, train.keep_every))
        for number in numbers
    )
    if train.checkpoint_steps:
        checkpoints += len(numbers) * ((steps_per_epoch - 1) // train.checkpoint_steps)
    return RunCounts(steps_per_epoch, dict(sides), evaluations, checkpoints, dict(tail))
