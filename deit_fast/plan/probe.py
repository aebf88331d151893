"""Measures each part of a run on this machine by doing it for a moment.

Afterwards the trainer's weights have changed, so it must be discarded. Compiled code stays compiled in this process.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from deit_fast.data.load.loader import Batch
from deit_fast.plan.run_counts import Shape, counts_of, stages_by_shape
from deit_fast.record.clock import Clock
from deit_fast.train.evaluate import num_batches
from deit_fast.train.run_folder import Keeper
from deit_fast.train.schedule import Stage
from deit_fast.train.trainer import Trainer

_ROUND_SECONDS = 1.0  # of steps, at least, where an epoch has so many
_MIN_STEPS, _MIN_ROUNDS = 2, 3
_LEAST_SHARE = 0.1  # of the time that measuring may take, for each thing
_MIN_EVAL_BATCHES = 3
_LONGEST_EVALUATION = 0.1  # of that time; of longer ones the first batches are measured
_NUM_CHECKPOINTS = 3


@dataclass(frozen=True)
class Measured:
    """Repeated measurements of something, in seconds."""

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
    for its batch and the rest of it. Where stages have betons of their own: means over them, by their epochs, and `by_betons`:
    the time of a step over that mean."""

    first: float
    wait: Measured
    compute: Measured
    by_betons: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Probes:
    """What was measured, in seconds.

    steps: by resolution. tail: those with all patches, by resolution; empty without model.patch_dropout. first_batch: until
    the first batch of the process. epoch_start: until that of a later epoch.
    loader, model: of a step's batch alone, and of a step on a batch that lies on the device. teacher: of its answers to a
    step's batch, None without one. evaluation: of all weights, once;
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
    teacher: Measured | None = None
    tail: dict[int, Steps] = field(default_factory=dict)


def probe(trainer: Trainer, folder: Path, seconds: float) -> Probes:
    """Measures for about that many seconds, each part at least once. folder: of the checkpoints.

    All ranks call it at the same time. Of the stages at one resolution and from one beton, whose augmentation may differ, one
    is measured.
    """
    return _Probe(trainer, seconds).run(folder)


Task = Shape | str  # training, or another part of a run by its name
Tasks = dict[Task, Callable[[], tuple[float, ...]]]  # a round of each, which gives the seconds of its parts


class _Probe:
    """Rounds of each task, in turns, so that all meet the same machine; more of what takes more of the run."""

    def __init__(self, trainer: Trainer, seconds: float) -> None:
        self._trainer, self._world = trainer, trainer.world
        self._seconds = seconds
        self._stages = stages_by_shape(trainer.config)
        self._epochs, self._places = itertools.count(), itertools.count()
        self._kept: Batch | None = None
        self._epoch_starts: list[float] = []  # the first is that of the process
        self._counts: dict[Shape, int] = {}  # steps of a round
        self._num_evaluated_batches = _MIN_EVAL_BATCHES  # in a round, of each weights

    def run(self, folder: Path) -> Probes:
        trainer = self._trainer
        counts = counts_of(trainer.config, trainer.steps_per_epoch)
        sides = self._to_measure(counts.epochs_at)
        tail = self._to_measure(counts.tail_at) if counts.tail_at else []
        shapes = [(side, False) for side in sides] + [(side, True) for side in tail]
        first = {shape: self._warm_up(shape) for shape in shapes}
        started = time.perf_counter()
        trainer.compile_evaluation()
        compile_evaluation = time.perf_counter() - started
        one_evaluation = self._agreed(*self._evaluation())
        if one_evaluation < _LONGEST_EVALUATION * self._seconds:
            self._num_evaluated_batches = num_batches(trainer.eval_loader)

        taking: dict[Task, float] = {"evaluation": counts.num_evaluations * one_evaluation}
        for is_tail, known, epochs_at in ((False, sides, counts.epochs_at), (True, tail, counts.tail_at)):
            for side, epochs in epochs_at.items():
                shape = side_of(known, side), is_tail
                taking[shape] = taking.get(shape, 0.0) + epochs * counts.steps_per_epoch * first[shape][1]
        tasks: Tasks = {
            "evaluation": self._evaluation,
            "loader": functools.partial(self._loader, shapes[0]),
            "model": functools.partial(self._model, shapes[0]),
        }
        if trainer.teacher is not None:
            tasks["teacher"] = functools.partial(self._teacher, shapes[0])
        training: Tasks = {shape: functools.partial(self._training, shape) for shape in shapes}
        measured = self._in_turns(training | tasks, taking)

        checkpoint, write = self._checkpoint(folder)
        alone = {name: measured[name][0] for name in tasks}
        steps: dict[Shape, Steps] = {}
        for shape in shapes:
            wait, compute, *each = measured[shape]
            mean = wait.mean + compute.mean
            names = [stage.betons for stage, _ in self._stages[shape]]
            by_betons = {name: one.mean / mean for name, one in zip(names, each, strict=True)} if len(each) > 1 else {}
            steps[shape] = Steps(max(0.0, first[shape][0] - compute.mean), wait, compute, by_betons)
        first_batch, *epoch_starts = self._epoch_starts
        starts = Measured(tuple(epoch_starts))
        return Probes(
            steps={side: steps[side, False] for side in sides}, tail={side: steps[side, True] for side in tail},
            first_batch=first_batch, epoch_start=starts, loader=alone["loader"], model=alone["model"],
            evaluation=alone["evaluation"], compile_evaluation=compile_evaluation, checkpoint=checkpoint, write=write,
            teacher=alone.get("teacher"),
        )  # fmt: skip

    def _to_measure(self, epochs_at: dict[int, int]) -> list[int]:
        """The resolutions to measure, the largest first: all of stages, some of a ramp."""
        if self._trainer.config.schedule.stages:
            return sorted(epochs_at, reverse=True)
        return resolutions_to_measure(set(epochs_at))

    def _in_turns(self, tasks: Tasks, taking: dict[Task, float]) -> dict[Task, list[Measured]]:
        """Does each task at least a few times, and then, until time is up, the one furthest behind its share of the time.

        taking: approximate seconds of the run for which a task stands. Gives what was measured of each value of each task.
        """
        total = sum(taking.values())
        shares = {name: max(_LEAST_SHARE, taking.get(name, 0.0) / total) for name in tasks}
        spent = dict.fromkeys(tasks, 0.0)
        rounds: dict[Task, list[tuple[float, ...]]] = {name: [] for name in tasks}
        began = time.perf_counter()
        while True:
            behind = min(tasks, key=lambda name: (len(rounds[name]) >= _MIN_ROUNDS, spent[name] / shares[name]))
            is_over = time.perf_counter() - began > self._seconds and min(map(len, rounds.values())) >= _MIN_ROUNDS
            name, is_over = self._world.gather((behind, is_over))[0]
            if is_over:
                return {name: [Measured(values) for values in zip(*of, strict=True)] for name, of in rounds.items()}
            started = time.perf_counter()
            rounds[name].append(tasks[name]())
            spent[name] += time.perf_counter() - started

    def _agreed(self, value: float) -> float:
        """Rank 0's value on every rank, so that all do the same number of steps."""
        return float(self._world.gather(value)[0])

    def _batches(self, stage: Stage) -> Generator[Batch, None, None]:
        """The batches of an epoch in a stage; the time until the first one is noted."""
        started = time.perf_counter()
        epoch = next(self._epochs) % self._trainer.config.train.epochs
        with contextlib.closing(self._trainer.batches_in(stage, epoch)) as batches:
            for number, batch in enumerate(batches):
                if number == 0:
                    self._epoch_starts.append(time.perf_counter() - started)
                yield batch

    def _train_on(self, batch: Batch, *, is_tail: bool) -> None:
        trainer = self._trainer
        trainer.train_on(batch, trainer.config.train.epochs - 1 if is_tail else 0, next(self._places) % trainer.steps_per_epoch)
        if trainer.step.num_unread >= trainer.config.train.log_every:
            trainer.step.read()

    def _warm_up(self, shape: Shape) -> tuple[float, float]:
        """Measures the first step of a shape and the next two; sets the steps of a round from them."""
        first = self._round(self._stages[shape][0][0], 1, is_tail=shape[1])[1]
        one = 0.0
        for stage, share in self._stages[shape]:
            num_steps, compute, wait = self._round(stage, _MIN_STEPS, is_tail=shape[1])
            one += share * self._agreed((compute + wait) / num_steps)
        self._counts[shape] = max(_MIN_STEPS, math.ceil(_ROUND_SECONDS / one))
        return first, one

    def _training(self, shape: Shape) -> tuple[float, ...]:
        """Seconds of a step of training: the wait for its batch, and the rest, means over the stages of its epochs; then
        both together in each stage."""
        mean_wait = mean_compute = 0.0
        each = []
        for stage, share in self._stages[shape]:
            num_steps, compute, wait = self._round(stage, self._counts[shape], is_tail=shape[1])
            wait, compute = wait / max(num_steps - 1, 1), compute / num_steps
            mean_wait, mean_compute = mean_wait + share * wait, mean_compute + share * compute
            each.append(wait + compute)
        return mean_wait, mean_compute, *each

    def _round(self, stage: Stage, count: int, *, is_tail: bool) -> tuple[int, float, float]:
        """(steps, seconds of computing, seconds of waiting for all batches but the first) of the first steps of an epoch."""
        with contextlib.closing(self._batches(stage)) as batches:
            first = next(batches)
            self._kept = self._kept or first.copy()
            clock = Clock(time.perf_counter())
            for num_steps, batch in enumerate(itertools.chain([first], batches), start=1):
                clock.switch("compute")
                self._train_on(batch, is_tail=is_tail)
                if num_steps == count:
                    break
                clock.switch("data_wait")
            clock.switch("compute")
            self._trainer.step.wait()
            seconds = clock.seconds()
        return num_steps, seconds["compute"], seconds["data_wait"]

    def _loader(self, shape: Shape) -> tuple[float]:
        """Seconds of a step's batch from the loader alone, the mean over the stages of its shape."""
        mean = 0.0
        for stage, share in self._stages[shape]:
            with contextlib.closing(self._batches(stage)) as batches:
                next(batches)
                started = time.perf_counter()
                taken = sum(1 for _ in itertools.islice(batches, self._counts[shape]))
                mean += share * (time.perf_counter() - started) / max(taken, 1)
        return (mean,)

    def _model(self, shape: Shape) -> tuple[float]:
        """Seconds of a step on a batch that is already on the device."""
        assert self._kept is not None
        started = time.perf_counter()
        for _ in range(self._counts[shape]):
            self._train_on(self._kept, is_tail=shape[1])
        self._trainer.step.wait()
        return ((time.perf_counter() - started) / self._counts[shape],)

    def _teacher(self, shape: Shape) -> tuple[float]:
        """Seconds of the teacher's answers to a batch that is already on the device."""
        assert self._kept is not None
        pieces = self._kept.images.chunk(self._trainer.config.train.accumulate)
        started = time.perf_counter()
        for _ in range(self._counts[shape]):
            *_, answer = self._trainer.step.answers(self._kept, pieces, 0, 0)
        assert answer is not None
        answer.cpu()  # waits for the device
        return ((time.perf_counter() - started) / self._counts[shape],)

    def _evaluation(self) -> tuple[float]:
        """Seconds of one evaluation of all weights; extrapolated if only the first batches are evaluated."""
        trainer = self._trainer
        all_batches, wanted = num_batches(trainer.eval_loader), self._num_evaluated_batches
        done: list[float] = []

        def enough() -> bool:
            done.append(time.perf_counter())
            return len(done) == wanted < all_batches

        started = time.perf_counter()
        if trainer.evaluate(enough) is not None:
            return (time.perf_counter() - started,)
        trainer.set_mode()
        each = (done[-1] - done[0]) / (len(done) - 1)
        return (trainer.num_evaluated * (done[0] - started + each * (all_batches - 1)),)

    def _checkpoint(self, folder: Path) -> tuple[Measured, float]:
        """Seconds for which the run waits for a checkpoint, and seconds of writing it in the background."""
        waits: list[float] = []
        writes: list[float] = []
        with contextlib.ExitStack() as stack:
            if self._world.is_main:
                place = tempfile.TemporaryDirectory(dir=nearest_folder(folder), prefix=".probe-")
                kept = Keeper(Path(stack.enter_context(place)), keep_last=1)
            for _ in range(1 + _NUM_CHECKPOINTS):
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
    """The largest, the smallest and a middle resolution of a ramp, in this order."""
    ordered = sorted(resolutions)
    return list(dict.fromkeys((ordered[-1], ordered[0], ordered[len(ordered) // 2])))


def side_of(known: Iterable[int], side: int) -> int:
    """The known side that is nearest to a given one."""
    return min(known, key=lambda at: abs(at - side))


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest existing folder above it."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
