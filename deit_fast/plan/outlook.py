"""Predicts the remaining seconds of a run from the epochs that it has done."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from deit_fast.config import RunConfig
from deit_fast.plan.run_counts import counts_of
from deit_fast.record.clock import KINDS
from deit_fast.train import schedule

_TRAINING = ("data_wait", "compute", "other")
_RECENT = 5  # epochs that stand for those to come
_SCATTER_UNSEEN = 0.2  # of epochs, of their mean, as long as there are too few to tell
_ENOUGH = 3
_LEAST_SCATTER = 0.02


@dataclass(frozen=True)
class _Epoch:
    pixels: float  # of a view that the model sees
    seconds: dict[str, float]
    is_evaluated: bool

    @property
    def training(self) -> float:
        return sum(self.seconds[kind] for kind in _TRAINING)


class Outlook:
    """Predicts the rest of a run from the newest epochs of this session, without the first if there are others.

    At other resolutions, or with other shares of the patches, an epoch takes time in proportion to the pixels that are seen.
    """

    def __init__(self, config: RunConfig, steps_per_epoch: int) -> None:
        self._config, self._steps_per_epoch = config, steps_per_epoch
        self._epochs: list[_Epoch] = []

    @property
    def has_evaluated(self) -> bool:
        """Whether an epoch of this session was evaluated; before that the rest is unknown."""
        return any(epoch.is_evaluated for epoch in self._epochs)

    @property
    def evaluation_seconds(self) -> float:
        """Seconds of an evaluation; 0 if there was none."""
        seconds = [epoch.seconds["evaluation"] for epoch in self._epochs if epoch.is_evaluated]
        return statistics.median(seconds[-_RECENT:]) if seconds else 0.0

    @property
    def first_epoch_extra(self) -> float:
        """Seconds by which the first epoch took longer than the later ones of its kind."""
        if not self._epochs:
            return 0.0
        first, *others = self._epochs
        others = [epoch for epoch in others if epoch.pixels == first.pixels]
        return max(0.0, first.training - statistics.median(epoch.training for epoch in others)) if others else 0.0

    def epoch_done(self, epoch: int, seconds: Mapping[str, float], is_evaluated: bool) -> None:
        """Adds an epoch (from 0) that this session did as a whole: its seconds by kind, with evaluation and checkpoint."""
        self._epochs.append(_Epoch(self._pixels(epoch), dict(seconds), is_evaluated))

    @property
    def error(self) -> float:
        """Relative standard error of the predicted rest, from the scatter of the epochs it is based on."""
        paces = [epoch.training / epoch.pixels for epoch in self._recent]
        scatter = _SCATTER_UNSEEN
        if len(paces) >= _ENOUGH:
            scatter = max(_LEAST_SCATTER, statistics.stdev(paces) / max(statistics.fmean(paces), 1e-9))
        return scatter / math.sqrt(len(paces))

    @property
    def _recent(self) -> list[_Epoch]:
        return self._epochs[1:][-_RECENT:] or self._epochs

    def left(self, next_epoch: int) -> dict[str, float]:
        """Seconds by kind from an epoch (from 0) to the end of the run."""
        recent = self._recent
        counts = counts_of(self._config, self._steps_per_epoch, next_epoch)
        seconds = dict.fromkeys(KINDS, 0.0)
        pixels = sum(self._pixels(epoch) for epoch in range(next_epoch, self._config.train.epochs))
        for kind in _TRAINING:
            seconds[kind] = pixels * statistics.fmean(epoch.seconds[kind] / epoch.pixels for epoch in recent)
        seconds["evaluation"] = counts.num_evaluations * self.evaluation_seconds
        seconds["checkpoint"] = counts.epochs * statistics.fmean(epoch.seconds["checkpoint"] for epoch in recent)
        return seconds

    def _pixels(self, epoch: int) -> float:
        model, epochs = self._config.model, self._config.train.epochs
        seen = 1 - model.patch_dropout if schedule.leaves_out_patches(model, epoch=epoch, epochs=epochs) else 1.0
        return seen * schedule.stage_of_epoch(self._config, epoch).resolution ** 2
