"""Trains a model from its first step, or its last checkpoint, to the end of the run."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.output import droppable_output
from deit_fast.record.clock import Clock
from deit_fast.train import run_folder
from deit_fast.train.dist import joined_world, world_size_of_environment
from deit_fast.train.journal import Journal, Tally, loader_line
from deit_fast.train.planning import Planning
from deit_fast.train.stop import BUDGET, Stop
from deit_fast.train.trainer import Trainer


@droppable_output()
def train(config: RunConfig, planning: Planning, command: Sequence[str] = ()) -> dict[str, Any]:
    """Trains a run from its first step, or its last checkpoint, to its end, as described in `plan.training.train`."""
    clock = Clock()
    check_training(config, world_size_of_environment())
    is_here_resumed = run_folder.resumes(config)
    with joined_world(config.train.device) as world, Stop(world) as stop, run_folder.folder_of_run(config, world) as folder:
        # torchrun counts the restarts of a node: one whose ranks start anew because another node's have died counts none
        is_resumed = any(world.gather(is_here_resumed))
        found = run_folder.load_newest(folder / "checkpoints") if is_resumed else None
        run_folder.check_same_place(world.gather(found and found[1].name), folder)
        config = planning.settle(world, clock, folder, found and found[0])
        with contextlib.closing(Trainer(config, world, starts_anew=found is None)) as trainer:
            if found is not None:
                content, path = found
                trainer.load_state(content, path)
                clock.add_earlier(content["seconds"])
                if summary := _former_end(folder, content, trainer, planning):
                    return summary
            with contextlib.closing(Journal(trainer, folder, list(command or sys.orig_argv), is_resumed)) as journal:
                return Run(trainer, journal, clock, stop, planning, found).train()


def _former_end(folder: Path, content: dict[str, Any], trainer: Trainer, planning: Planning) -> dict[str, Any] | None:
    """The summary of the run in a folder if it has already ended at a checkpoint's place, with a line that says so; else
    None. content: of the checkpoint, whose state the trainer has."""
    summary = run_folder.former_summary(folder, trainer.world, trainer.digest())
    if summary is None:
        return None
    reason = summary.get("stopped", "")
    is_over = {
        "": content["place"][0] == trainer.config.train.epochs,
        "target": content["best_top1"] >= planning.target,
        BUDGET: any(trainer.world.gather(planning.is_spent)),
    }
    if not is_over.get(reason):
        return None
    if trainer.world.is_main:
        why = f"{_end_of(reason, trainer.config)}; " if reason else ""
        print(f"{folder}: this run has come to its end: {why}best top-1 {summary['best_top1']:.2f} %; nothing is done")
    return summary


def _end_of(reason: str, config: RunConfig) -> str:
    """Why a run ended before its last epoch, in words."""
    return "its budget is spent" if reason == BUDGET else f"{config.budget.until} is reached"


class Run:
    """A run and its place: the epoch, and the number of steps done in it."""

    def __init__(
        self,
        trainer: Trainer,
        journal: Journal,
        clock: Clock,
        stop: Stop,
        planning: Planning,
        found: tuple[dict[str, Any], Path] | None,
    ) -> None:
        """found: the checkpoint that the run goes on from, whose state the trainer has, and its path; None: a new run."""
        self._trainer, self._journal, self._clock, self._stop, self._planning = trainer, journal, clock, stop, planning
        self._config, self._world = trainer.config, trainer.world
        self._found = found
        self._epoch = self._steps = 0
        self._tally = Tally(trainer, journal)
        self._shapes: set[tuple[int, bool]] = set()  # resolution, and whether patches are left out, of this session's steps
        self._best: dict[str, Any] = {"best_top1": -1.0, "best_weights": "model", "best_epoch": -1, "best_step": -1}
        if found is not None:
            content, _ = found
            self._epoch, self._steps = content["place"]
            self._tally.sums = dict(content["in_epoch"])
            self._best = {key: content[key] for key in self._best}
        self._former_best = self._best  # that best.pt holds until the best so far is on the disk

    @property
    def _step(self) -> int:
        """Steps of the run that are done."""
        return self._epoch * self._trainer.steps_per_epoch + self._steps

    @property
    def _last_epoch(self) -> int:
        """The epoch of the last step that is done."""
        return self._epoch if self._steps else self._epoch - 1

    @property
    def _is_last_epoch(self) -> bool:
        return self._epoch == self._config.train.epochs - 1

    def train(self) -> dict[str, Any]:
        """Trains the rest of the run and gives the summary; after a stop the summary has the place and the reason.

        Raises UserError when the loss is not finite, or when the last checkpoint could not be written.
        """
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

    def _begin(self) -> None:
        self._journal.start(self._epoch, self._steps, self._clock.run_seconds, self._planning.placement)
        if self._found is not None and self._world.is_main:  # now that no other process has the folder
            content, path = self._found
            run_folder.mend_names(path.parent, content, path, self._config.train.keep_every)
        for line in self._planning.begin(self._trainer.steps_per_epoch, is_first=self._found is None):
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

    def _train_epoch(self) -> str | None:
        """Trains the rest of an epoch; gives the reason to stop, if any."""
        trainer, clock, epoch = self._trainer, self._clock, self._epoch
        started, first_step = time.perf_counter(), self._steps
        reason = None
        is_compiled = self._config.train.compile != "off"
        # the first batch of a process includes compilation, and so does, where it is asked for, a step at a new resolution
        clock.switch("data_wait" if self._shapes else "compile")
        shape = trainer.stage(epoch).resolution, trainer.leaves_out_patches(epoch)
        for batch in trainer.batches(epoch, first_step) if first_step < trainer.steps_per_epoch else ():
            clock.switch("compile" if is_compiled and shape not in self._shapes else "compute")
            self._shapes.add(shape)
            trainer.train_on(batch, epoch, self._steps)
            self._steps += 1
            is_end = self._steps == trainer.steps_per_epoch
            if is_end or self._steps % self._config.train.log_every == 0:
                self._tally.read(epoch, self._steps)
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
            self._tally.log_epoch(epoch, clock.seconds())
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
            seconds = self._clock.run_seconds
            for weights, result in results.items():
                self._journal.event("eval", epoch=self._last_epoch, weights=weights, run_seconds=seconds, **result)
            self._planning.evaluated(self._last_epoch, seconds, [result["top1"] for result in results.values()])
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
            remarks=[loader_line(self._tally.loader)] if self._tally.loader.num_batches else [],
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
            self._tally.read(self._epoch, self._steps)
            self._forget_lost_best()
            if not self._trainer.is_finite():
                self._journal.event("not_finite", epoch=self._epoch, step=self._steps)
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
        self._journal.progress.say(f"ends after {after}: {_end_of(reason, self._config)}")
        return self._finish(reason)

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
