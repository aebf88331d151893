"""Takes a trainer, gives what each thing that a run does takes here, measured by doing it for a moment.

The trainer is used up by it: its weights have moved. What is compiled stays compiled in this process.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch

from deit_fast.data.loader import Batch
from deit_fast.record.clock import Clock
from deit_fast.train.evaluate import num_batches
from deit_fast.train.feed import on_device
from deit_fast.train.keeper import Keeper
from deit_fast.train.trainer import Trainer

_ROUND_SECONDS = 1.0  # of steps, at least, where an epoch has so many
_MIN_STEPS, _MIN_ROUNDS, _MAX_ROUNDS = 2, 3, 12
_SHARES = {"steps": 0.6, "alone": 0.2, "evaluation": 0.2}  # of the time that measuring may take
_MIN_EVAL_BATCHES = 3


@dataclass(frozen=True)
class Measured:
    """Seconds of something, measured again and again."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean; of a single measurement a tenth of it."""
        if len(self.values) < 2:
            return 0.1 * self.mean
        return statistics.stdev(self.values) / math.sqrt(len(self.values))


@dataclass(frozen=True)
class Steps:
    """Training steps at one resolution, in seconds: what the first takes beyond a later one, and of one, end to end, the wait
    for its batch and the rest of it."""

    first: float
    wait: Measured
    compute: Measured


@dataclass(frozen=True)
class Probes:
    """What was measured, in seconds.

    steps: by resolution. first_batch: until the first batch of the process. epoch_start: until that of a later epoch.
    loader, model: of a step's batch alone, and of a step on a batch that lies on the device. evaluation: of all weights, once;
    compile_evaluation: what comes before the first. checkpoint: for which the run waits; write: of it in the background.
    """

    steps: dict[int, Steps]
    first_batch: float
    epoch_start: Measured
    loader: Measured
    model: Measured
    evaluation: Measured
    compile_evaluation: float
    checkpoint: Measured
    write: float


def probe(trainer: Trainer, folder: Path, seconds: float) -> Probes:
    """Measures for about so many seconds, and at least each thing once. folder: where checkpoints are to lie.

    Every rank calls it at once. The full resolution is measured first, as the others' steps are known from it."""
    return _Probe(trainer, seconds).run(folder)


class _Probe:
    def __init__(self, trainer: Trainer, seconds: float) -> None:
        self._trainer, self._world = trainer, trainer.world
        self._seconds = seconds
        self._epochs, self._places = itertools.count(), itertools.count()
        self._kept: Batch | None = None
        self._first_batch: float | None = None
        self._epoch_starts: list[float] = []
        self._count = _MIN_STEPS  # of a round at the full resolution

    def run(self, folder: Path) -> Probes:
        trainer = self._trainer
        resolutions = resolutions_to_measure({trainer.resolution(epoch) for epoch in range(trainer.config.train.epochs)})
        share = _SHARES["steps"] * self._seconds / len(resolutions)
        steps = {resolution: self._steps(resolution, share) for resolution in resolutions}
        loader, model = self._alone(resolutions[0], _SHARES["alone"] * self._seconds)
        started = time.perf_counter()
        trainer.compile_evaluation()
        compile_evaluation = time.perf_counter() - started
        evaluation = self._evaluation(_SHARES["evaluation"] * self._seconds)
        checkpoint, write = self._checkpoint(folder)
        assert self._first_batch is not None
        starts = Measured(tuple(self._epoch_starts))
        return Probes(steps, self._first_batch, starts, loader, model, evaluation, compile_evaluation, checkpoint, write)

    def _agreed(self, value: float) -> float:
        """Rank 0's, on every rank: all do the same number of steps."""
        return float(self._world.gather(value)[0])

    def _goes_on(self, values: list[float], started: float, seconds: float) -> bool:
        """Whether another round is to be measured, the same on every rank."""
        if len(values) < _MIN_ROUNDS:
            return True
        return len(values) < _MAX_ROUNDS and self._agreed(time.perf_counter() - started) < seconds

    def _batches(self, resolution: int) -> Generator[Batch, None, None]:
        """The batches of an epoch at a resolution; the time until the first one is noted."""
        loader = self._trainer.train_loader
        started = time.perf_counter()
        loader.set_resolution(resolution)
        loader.set_epoch(next(self._epochs) % self._trainer.config.train.epochs)
        with contextlib.closing(on_device(loader, self._world.device)) as batches:
            for number, batch in enumerate(batches):
                if number == 0:
                    waited = time.perf_counter() - started
                    if self._first_batch is None:
                        self._first_batch = waited
                    else:
                        self._epoch_starts.append(waited)
                yield batch

    def _train_on(self, batch: Batch) -> None:
        trainer = self._trainer
        trainer.train_on(batch, 0, next(self._places) % trainer.steps_per_epoch)
        if trainer.step.num_unread >= trainer.config.train.log_every:
            trainer.step.read()

    def _read(self) -> None:
        if self._trainer.step.num_unread:
            self._trainer.step.read()  # waits for the device

    def _steps(self, resolution: int, seconds: float) -> Steps:
        started = time.perf_counter()
        first = self._round(resolution, 1)[1]
        num_steps, compute, wait = self._round(resolution, _MIN_STEPS)
        count = math.ceil(_ROUND_SECONDS / self._agreed((compute + wait) / num_steps))
        self._count = max(_MIN_STEPS, count)
        waits: list[float] = []
        computes: list[float] = []
        while self._goes_on(waits, started, seconds):
            num_steps, compute, wait = self._round(resolution, self._count)
            waits.append(wait / max(num_steps - 1, 1))
            computes.append(compute / num_steps)
        return Steps(max(0.0, first - statistics.fmean(computes)), Measured(tuple(waits)), Measured(tuple(computes)))

    def _round(self, resolution: int, count: int) -> tuple[int, float, float]:
        """(steps, seconds of computing, seconds of waiting for all batches but the first) of the first steps of an epoch."""
        clock: Clock | None = None
        num_steps = 0
        with contextlib.closing(self._batches(resolution)) as batches:
            for batch in batches:
                if clock is None:
                    self._keep(batch)
                    clock = Clock(time.perf_counter())
                clock.switch("compute")
                self._train_on(batch)
                num_steps += 1
                if num_steps == count:
                    break
                clock.switch("data_wait")
            assert clock is not None
            clock.switch("compute")
            self._read()
            seconds = clock.seconds()
        return num_steps, seconds["compute"], seconds["data_wait"]

    def _keep(self, batch: Batch) -> None:
        if self._kept is None:  # a copy: the memory of a batch is used again for a later one
            images = batch.images.clone(memory_format=torch.preserve_format)
            self._kept = Batch(images, batch.targets.clone(), batch.samples, batch.views)

    def _alone(self, resolution: int, seconds: float) -> tuple[Measured, Measured]:
        """Of the loader and of steps, each without the other."""
        loaded: list[float] = []
        trained: list[float] = []
        assert self._kept is not None
        started = time.perf_counter()
        while self._goes_on(trained, started, seconds):
            with contextlib.closing(self._batches(resolution)) as batches:
                next(batches)
                moment = time.perf_counter()
                taken = sum(1 for _ in itertools.islice(batches, self._count))
                loaded.append((time.perf_counter() - moment) / max(taken, 1))
            moment = time.perf_counter()
            for _ in range(self._count):
                self._train_on(self._kept)
            self._read()
            trained.append((time.perf_counter() - moment) / self._count)
        return Measured(tuple(loaded)), Measured(tuple(trained))

    def _evaluation(self, seconds: float) -> Measured:
        """Of one evaluation of all weights; of a set that takes longer than that, the first batches stand for all."""
        trainer = self._trainer
        values: list[float] = []
        limit = time.perf_counter() + seconds
        batches_of_one = num_batches(trainer.eval_loader)
        while len(values) < 2 or (len(values) < _MAX_ROUNDS and self._agreed(limit - time.perf_counter()) > values[-1]):
            done: list[float] = []

            def enough(done: list[float] = done) -> bool:
                done.append(time.perf_counter())
                may_end = not values and _MIN_EVAL_BATCHES < len(done) < batches_of_one
                return may_end and self._agreed(limit - done[-1]) < 0

            started = time.perf_counter()
            results = trainer.evaluate(enough)
            values.append(time.perf_counter() - started)
            if results is None:  # so many batches of the first weights
                trainer.set_mode()
                each = (done[-1] - done[0]) / (len(done) - 1)
                return Measured((trainer.num_evaluated * (done[0] - started + each * (batches_of_one - 1)),))
        return Measured(tuple(values))

    def _checkpoint(self, folder: Path) -> tuple[Measured, float]:
        """For which the run waits, and of writing beside it."""
        waits: list[float] = []
        writes: list[float] = []
        with contextlib.ExitStack() as stack:
            if self._world.is_main:
                place = tempfile.TemporaryDirectory(dir=nearest_folder(folder), prefix=".probe-")
                kept = Keeper(Path(stack.enter_context(place)), keep_last=1)
            for _ in range(1 + _MIN_ROUNDS):
                started = time.perf_counter()
                self._trainer.is_finite()
                content = {"epoch": 0, "step": 1, **self._trainer.state()}
                if self._world.is_main:
                    kept.save(content, epoch=0, step=1, is_best=True)
                waits.append(time.perf_counter() - started)
                if self._world.is_main:
                    kept.wait()
                writes.append(time.perf_counter() - started - waits[-1])
        return Measured(tuple(waits[1:])), self._agreed(statistics.median(writes))


def resolutions_to_measure(resolutions: set[int]) -> list[int]:
    """The largest, the smallest and one between, in this order, of those that a run has."""
    ordered = sorted(resolutions)
    return list(dict.fromkeys((ordered[-1], ordered[0], ordered[len(ordered) // 2])))


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
