"""Trains a model from its first step, or its last checkpoint, to the end of the run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.output import droppable_output
from deit_fast.record.clock import Clock
from deit_fast.train import run_folder
from deit_fast.train.dist import World, joined_world, world_size_of_environment
from deit_fast.train.journal import Journal, Tally
from deit_fast.train.run_folder import check_same_place, folder_of_run, former_summary, resumes
from deit_fast.train.stop import BUDGET, Stop
from deit_fast.train.trainer import Trainer


class Planning(Protocol):
    """The plan, the placement and the budget of one run, on one rank. `settle` comes first.

    target: top-1 in percent at which the run may end; above 100 where there is none.
    """

    target: float

    @property
    def placement(self) -> list[str]:
        """Lines on where images are decoded and augmented, if that was left open."""
        ...

    @property
    def is_spent(self) -> bool:
        """Whether the rest of the budget suffices only for an evaluation and a checkpoint."""
        ...

    def settle(self, world: World, clock: Clock, folder: Path, content: Mapping[str, Any] | None) -> RunConfig:
        """The run's configuration with all automatic options decided: as in a checkpoint's content, or now.

        Raises UserError if the budget is too small, or views cannot be made anywhere.
        """
        ...

    def begin(self, steps_per_epoch: int, *, is_first: bool) -> list[str]:
        """Called before the first step, or the first after a checkpoint. Gives lines to print."""
        ...

    def epoch_done(self, epoch: int, is_evaluated: bool, is_whole: bool) -> list[str]:
        """Called after an epoch (from 0). is_whole: this session did all of it, with evaluation and checkpoint. Gives lines."""
        ...

    def end(self, summary: dict[str, Any], num_sessions: int) -> list[str]:
        """Called at the end of the run with its summary, which is kept for later plans. Gives lines to print."""
        ...

    def result(self) -> dict[str, Any]:
        """Entries of the summary about the prediction; none if there was no prediction."""
        ...


@droppable_output()
def train(config: RunConfig, planning: Planning, command: Sequence[str] = ()) -> dict[str, Any]:
    """Trains a run from its first step, or its last checkpoint, to its end, as described in `plan.training.train`."""
    clock = Clock()
    check_training(config, world_size_of_environment())
    is_resumed = resumes(config)
    with joined_world(config.train.device) as world, Stop(world) as stop, folder_of_run(config, world) as folder:
        found = run_folder.load_newest(folder / "checkpoints") if is_resumed else None
        check_same_place(world.gather(found and found[1].name), folder)
        config = planning.settle(world, clock, folder, found and found[0])
        trainer = Trainer(config, world, starts_anew=found is None)
        try:
            run = Run(trainer, clock, stop, planning)
            if found is not None:
                run.take_up(*found)
                if summary := run.former_end(folder):
                    return summary
            return run.train(Journal(trainer, folder, list(command or sys.orig_argv), is_resumed))
        finally:
            trainer.close()


class Run:
    """A run and its place: the epoch, and the number of steps done in it."""

    def __init__(self, trainer: Trainer, clock: Clock, stop: Stop, planning: Planning) -> None:
        self._trainer, self._clock, self._stop, self._planning = trainer, clock, stop, planning
        self._config, self._world = trainer.config, trainer.world
        self._epoch = self._steps = 0
        self._tally = Tally(trainer)
        self._resolutions: set[int] = set()  # at which steps were made in this session
        self._best: dict[str, Any] = {"best_top1": -1.0, "best_weights": "model", "best_epoch": -1, "best_step": -1}
        self._former_best = self._best  # that best.pt holds until the best so far is on the disk
        self._taken_up: tuple[dict[str, Any], Path] | None = None  # the place of the checkpoint that this goes on from, and it
        self._journal: Journal

    @property
    def _step(self) -> int:
        """Steps of the run that are done."""
        return self._epoch * self._trainer.steps_per_epoch + self._steps

    @property
    def _last_epoch(self) -> int:
        """The epoch of the last step that is done."""
        return self._epoch if self._steps else self._epoch - 1

    def take_up(self, content: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint of the same run. Raises UserError if it is of another."""
        self._trainer.load_state(content, path)
        self._epoch, self._steps = content["place"]
        self._tally.sums = dict(content["in_epoch"])
        self._best = self._former_best = {key: content[key] for key in self._best}
        self._clock.add_earlier(content["seconds"])
        self._taken_up = {key: content[key] for key in ("place", "best_step", "step")}, path

    def former_end(self, folder: Path) -> dict[str, Any] | None:
        """The summary of the run in a folder if it has already ended at this place, with a line that says so; else None."""
        summary = former_summary(folder, self._world, self._trainer.digest())
        if summary is None:
            return None
        reason = summary.get("stopped", "")
        is_over = {
            "": self._epoch == self._config.train.epochs,
            "target": self._best["best_top1"] >= self._planning.target,
            BUDGET: any(self._world.gather(self._planning.is_spent)),
        }
        if not is_over.get(reason):
            return None
        if self._world.is_main:
            why = f"{self._end_of(reason)}; " if reason else ""
            print(f"{folder}: this run has come to its end: {why}best top-1 {summary['best_top1']:.2f} %; nothing is done")
        return summary

    def train(self, journal: Journal) -> dict[str, Any]:
        """Trains the rest of the run and gives the summary; after a stop the summary has the place and the reason.

        Raises UserError when the loss is not finite, or when the last checkpoint could not be written.
        """
        self._journal = journal
        try:
            if self._taken_up is not None and self._world.is_main:  # now that no other process has the folder
                place, path = self._taken_up
                run_folder.mend_names(path.parent, place, path, self._config.train.keep_every)
            self._begin()
            while self._epoch < self._config.train.epochs:
                is_whole = self._steps == 0
                reason = self._train_epoch()
                results: dict[str, Any] = {}
                if reason is None and (self._is_last_epoch or (self._epoch + 1) % self._config.train.eval_every == 0):
                    reason, results = self._evaluate(self._stop.agreed)
                if reason == BUDGET:
                    return self._end_early(BUDGET)
                if reason is not None:
                    return self._stopped(reason)
                self._end_epoch(results)
                if reason := self._reason_to_end(results, is_whole):
                    return self._end_early(reason, is_evaluated=bool(results))
            return self._finish()
        finally:
            journal.close()

    def _begin(self) -> None:
        self._journal.start(self._epoch, self._steps, self._clock.run_seconds, self._planning.placement)
        for line in self._planning.begin(self._trainer.steps_per_epoch, is_first=self._taken_up is None):
            self._journal.remark("forecast", line)

    def _reason_to_end(self, results: dict[str, Any], is_whole: bool) -> str | None:
        """Why the run ends before its last epoch, the same on every rank: its target or its budget; None: it continues."""
        for line in self._planning.epoch_done(self._epoch - 1, bool(results), is_whole):
            self._journal.remark("forecast", line)
        if self._epoch == self._config.train.epochs:
            return None
        if any(result["top1"] >= self._planning.target for result in results.values()):
            return "target"
        return BUDGET if any(self._world.gather(self._planning.is_spent)) else None

    @property
    def _is_last_epoch(self) -> bool:
        return self._epoch == self._config.train.epochs - 1

    def _train_epoch(self) -> str | None:
        """Trains the rest of an epoch; gives the reason to stop, if any."""
        trainer, clock, epoch = self._trainer, self._clock, self._epoch
        started, first_step = time.perf_counter(), self._steps
        reason = None
        is_compiled = self._config.train.compile != "off"
        # the first batch of a process includes compilation, and so does, where it is asked for, a step at a new resolution
        clock.switch("data_wait" if self._resolutions else "compile")
        resolution = trainer.resolution(epoch)
        for batch in trainer.batches(epoch, first_step) if first_step < trainer.steps_per_epoch else ():
            clock.switch("compile" if is_compiled and resolution not in self._resolutions else "compute")
            self._resolutions.add(resolution)
            trainer.train_on(batch, epoch, self._steps)
            self._steps += 1
            is_end = self._steps == trainer.steps_per_epoch
            if is_end or self._steps % self._config.train.log_every == 0:
                self._tally.read(self._journal, epoch, self._steps)
            self._journal.progress.step(epoch)
            if self._planning.is_spent:
                self._stop.ask()
            reason = self._stop.agreed()
            if reason is not None:
                break
            if not is_end and self._config.train.checkpoint_steps and self._steps % self._config.train.checkpoint_steps == 0:
                self._tally.sums["wall_seconds"] += time.perf_counter() - started
                started = time.perf_counter()
                self._save()
            self._journal.log_checkpoints()
            clock.switch("data_wait")
        clock.switch("other")
        self._tally.sums["wall_seconds"] += time.perf_counter() - started
        if self._steps == trainer.steps_per_epoch and first_step < self._steps:
            self._tally.log_epoch(self._journal, epoch, clock.seconds())
        return reason

    def _evaluate(self, reason_to_stop: Callable[[], str | None]) -> tuple[str | None, dict[str, Any]]:
        """Evaluates and logs. Gives the reason to stop, if any, and the results by weights."""
        reason: str | None = None

        def should_stop() -> bool:
            nonlocal reason
            reason = reason_to_stop()
            return reason is not None

        with self._clock.during("compile"):
            self._trainer.compile_evaluation()
        with self._clock.during("evaluation"):
            results = self._trainer.evaluate(should_stop)
            if results is None:
                return reason, {}
            for weights, result in results.items():
                self._journal.event("eval", epoch=self._last_epoch, weights=weights, **result)
        return None, results

    def _end_epoch(self, results: dict[str, Any]) -> None:
        """Updates the best so far, prints the line of the epoch, saves its checkpoint, and moves to the next epoch."""
        train, epoch = self._config.train, self._epoch
        is_best = self._is_best(results)
        self._journal.progress.epoch_done(
            epoch,
            loss=self._tally.loss,
            images_per_second=self._tally.images_per_second,
            top1={weights: result["top1"] for weights, result in results.items()},
        )
        kept_name = run_folder.kept_name(epoch + 1, train.keep_every)
        is_due = self._is_last_epoch or is_best or bool(kept_name) or (epoch + 1) % train.checkpoint_every == 0
        self._epoch, self._steps = epoch + 1, 0
        self._tally.begin_epoch()
        if is_due:
            self._save(is_best=is_best, kept_name=kept_name)

    def _is_best(self, results: dict[str, Any]) -> bool:
        """Whether an evaluation at this place is the best so far; if so, records it as the best."""
        is_best = False
        self._forget_lost_best()
        self._former_best = self._best
        for weights, result in results.items():
            if result["top1"] > self._best["best_top1"]:
                place = {"best_epoch": self._last_epoch, "best_step": self._step}
                self._best = {"best_top1": result["top1"], "best_weights": weights, **place}
                is_best = True
        return is_best

    def _forget_lost_best(self) -> None:
        """After a failed write of the best checkpoint, the best is again that in best.pt; the next better one replaces it."""
        with self._clock.during("checkpoint"):
            if self._journal.has_lost_best():
                self._best = self._former_best

    def _save(self, *, is_best: bool = False, kept_name: str = "") -> None:
        """A checkpoint of this place, written in the background. Raises UserError if what it would hold is not finite."""
        with self._clock.during("checkpoint"):
            self._tally.read(self._journal, self._epoch, self._steps)
            self._forget_lost_best()
            if not self._trainer.is_finite():
                raise UserError(
                    f"the weights are not finite after epoch {self._epoch + 1}, step {self._steps}; "
                    f"{self._journal.last_good()}; try a smaller optim.lr, more schedule.warmup_epochs, or optim.clip"
                )
            self._world.share_buffers(self._trainer.model)
            if self._trainer.average is not None:
                self._world.share_buffers(self._trainer.average.module)
            content = {
                "epoch": max(0, self._step - 1) // self._trainer.steps_per_epoch,  # of the last step
                "place": [self._epoch, self._steps],
                "step": self._step,
                "in_epoch": self._tally.sums,
                "seconds": self._clock.total_seconds(),
                **self._best,
                **self._trainer.state(),
            }
            self._journal.save(content, is_best=is_best, kept_name=kept_name)

    def _stopped(self, reason: str) -> dict[str, Any]:
        """Ends a run that was told to stop, with a checkpoint of this place."""
        self._save()
        with self._clock.during("checkpoint"):
            self._journal.end_writing()
        place = {"epoch": self._epoch, "step": self._steps}
        self._journal.event("stopped", reason=reason, **place)
        self._journal.progress.say(
            f"stopped by {reason} at epoch {self._epoch + 1}, step {self._steps}; go on with --train.resume "
            f"--run.dir={self._journal.folder}"
        )
        return {"stopped": reason, **place, "checkpoint": f"checkpoints/{run_folder.LAST}"}

    def _end_early(self, reason: str, is_evaluated: bool = False) -> dict[str, Any]:
        """Ends a run that has spent its budget or reached its target, with an evaluated checkpoint of this place."""
        if not is_evaluated:
            _, results = self._evaluate(lambda: None)
            self._save(is_best=self._is_best(results))
        step = f", step {self._steps}" if self._steps else ""
        after = f"epoch {self._last_epoch + 1}{step} of {self._config.train.epochs}"
        self._journal.progress.say(f"ends after {after}: {self._end_of(reason)}")
        return self._finish(reason)

    def _end_of(self, reason: str) -> str:
        return "its budget is spent" if reason == BUDGET else f"{self._config.budget.until} is reached"

    def _finish(self, stopped: str = "") -> dict[str, Any]:
        with self._clock.during("checkpoint"):
            self._journal.end_writing()
        digests = self._world.gather(self._trainer.digest())
        assert len(set(digests)) == 1, f"the ranks end with different weights: {digests}"
        seconds = self._clock.total_seconds()
        summary = {
            "epoch": self._last_epoch,  # perhaps not all of it
            "stopped": stopped,  # before its schedule's end: "budget", "target"
            "wall_seconds": sum(seconds.values()),
            "seconds": seconds,
            **self._best,
            "weights_sha256": digests[0],
            "checkpoint": f"checkpoints/{run_folder.BEST}",  # in the folder of the run
            **self._planning.result(),
        }
        self._journal.finish(summary)
        for line in self._planning.end(summary, self._journal.num_sessions):
            self._journal.remark("warning", line)
        return summary
