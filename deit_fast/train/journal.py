"""Records what a run does: its events, losses and checkpoints, in its folder and as lines on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deit_fast.config import UserError, warnings_of
from deit_fast.data.load.activity import NOTHING, Activity
from deit_fast.model.create import lacks_of, num_parameters
from deit_fast.output import dropped_output, reason_of
from deit_fast.record.progress import Progress
from deit_fast.record.run import RunRecord, open_run
from deit_fast.train import run_folder
from deit_fast.train.run_folder import Keeper, check_disk_space
from deit_fast.train.step import Window
from deit_fast.train.trainer import Trainer

_SUMS = ("loss_sum", "correct_sum", "wall_seconds")


class Journal:
    """The folder of a run. Every rank calls the same methods; only rank 0 writes."""

    def __init__(self, trainer: Trainer, folder: Path, command: list[str], is_resumed: bool) -> None:
        """Make the folder, or add a session to it. Raises UserError, on every rank, where it cannot be written."""
        self.folder = folder
        self._trainer, self._world = trainer, trainer.world
        self._keeper = Keeper(folder / "checkpoints", trainer.config.train.keep_last)
        self._has_lost_best = False
        self._said_dropped: set[str] = set()

        def opened() -> RunRecord:
            stale = run_folder.step_files(self._keeper.folder)
            if stale and not is_resumed and not (folder / "run.json").exists():
                raise UserError(f"run.dir={folder}: holds {stale[-1].name} of another run; choose another --run.dir")
            check_disk_space(folder, trainer.model, trainer.average, trainer.config)
            return open_run(folder, trainer.config, command, is_resumed)

        self._record = self._world.only_on_main(opened)
        self.progress: Progress

    @property
    def num_sessions(self) -> int:
        """Sessions of the run, this one included."""
        return 0 if self._record is None else self._record.num_sessions

    def event(self, event: str, **fields: Any) -> None:
        """Writes a line of log.jsonl, and once another if output to the terminal could not be written."""
        if self._record is None:
            return
        self._record.write(event, **fields)
        self._note_dropped_output()

    def _note_dropped_output(self) -> None:
        for stream, error in dropped_output().items():
            if self._record is not None and stream not in self._said_dropped:
                self._said_dropped.add(stream)
                self._record.write("output_dropped", stream=stream, error=reason_of(error))

    def start(self, epoch: int, step: int, earlier_seconds: float, placement: Sequence[str]) -> None:
        """Logs the start of a session: its configuration, epoch and step, the run's seconds so far, and lines on placement."""
        trainer, train = self._trainer, self._trainer.config.train
        self.progress = Progress(
            total_steps=train.epochs * trainer.steps_per_epoch,
            first_step=epoch * trainer.steps_per_epoch + step,
            epochs=train.epochs,
            global_batch_size=trainer.global_batch_size,
            dollars_per_hour=trainer.config.run.dollars_per_hour,
            earlier_seconds=earlier_seconds,
            is_shown=self._world.is_main,
        )
        self.event(
            "start",
            epoch=epoch,
            step=step,
            steps_per_epoch=trainer.steps_per_epoch,
            world_size=self._world.world_size,
            global_batch_size=trainer.global_batch_size,
            device=str(self._world.device),
            amp=trainer.step.amp,
            compile=train.compile,
            channels_last=train.channels_last,
            lr=trainer.peak_lr,
            num_parameters=num_parameters(trainer.model),
            datasets=trainer.datasets,
        )
        remarks = [("placement", line) for line in placement] + [("weights", line) for line in trainer.remarks]
        if self._record is not None:
            remarks += [("warning", line) for line in self._record.remarks]
        remarks += trainer.remarks_on_data
        warnings = [
            *warnings_of(trainer.config, trainer.global_batch_size),
            *lacks_of(trainer.config.model, trainer.model),
        ]
        for kind, line in [*remarks, *(("warning", line) for line in warnings)]:
            self.remark(kind, line)

    def remark(self, kind: str, line: str) -> None:
        """Writes a line to the log and the terminal."""
        self.event(kind, message=line)
        self.progress.say(f"{kind}: {line}")

    def save(self, content: dict[str, Any], *, is_best: bool, kept_name: str) -> None:
        """Writes a checkpoint in the background; content has epoch and step, and its tensors are copied at once."""
        if self._record is not None:
            self._keeper.save(content, epoch=content["epoch"], step=content["step"], is_best=is_best, kept_name=kept_name)

    def log_checkpoints(self) -> str:
        """Log finished checkpoints and print failed ones. Gives the error of the last one."""
        error = ""
        for saved in self._keeper.finished():
            fields: dict[str, Any] = {
                "epoch": saved.epoch,
                "step": saved.step,
                "path": str(saved.path.relative_to(self.folder)),
            }
            error = ""
            if saved.error:
                error = f"checkpoint {saved.path}: could not be written ({saved.error}); {self.last_good()}"
                self._has_lost_best = self._has_lost_best or saved.is_best
                self.event("checkpoint_failed", **fields, error=saved.error)
                self.progress.say(f"warning: {error}")
            else:
                self.event("checkpoint", **fields, best=saved.is_best, wall_seconds=saved.seconds)
        return error

    def has_lost_best(self) -> bool:
        """Whether writing the best checkpoint has failed since the last call; the same on every rank."""

        def lost() -> bool:
            self._keeper.wait()
            self.log_checkpoints()
            return self._has_lost_best

        answer = self._world.gather(self._world.is_main and lost())[0]
        self._has_lost_best = False
        return bool(answer)

    def last_good(self) -> str:
        """Names the last checkpoint, for the error of a run that cannot continue."""
        self._keeper.wait()
        files = run_folder.step_files(self._keeper.folder)
        return f"the last good checkpoint is {files[-1]}" if files else "there is no checkpoint yet"

    def end_writing(self) -> None:
        """Wait for the last checkpoint. Raises UserError, on every rank, if it could not be written.

        Failed checkpoints before it no longer matter."""

        def ended() -> None:
            self._keeper.wait()
            error = self.log_checkpoints()
            if error:
                raise UserError(f"{error}; make room, and go on from there with --train.resume")

        self._world.only_on_main(ended)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the result of a finished run. Raises UserError, on every rank, if it could not be written."""
        self.event("end", **summary)

        def write() -> None:
            assert self._record is not None
            try:
                self._record.finish(summary)
            except OSError as error:
                raise UserError(
                    f"{self.folder / 'summary.json'}: could not be written ({error.strerror}); all checkpoints are: make room, "
                    "and end the run with --train.resume"
                ) from error

        self._world.only_on_main(write)
        best = f"{summary['best_top1']:.2f} % ({summary['best_weights']}, epoch {summary['best_epoch'] + 1})"
        self.progress.say(f"best top-1 {best}; {summary['wall_seconds']:.1f} s; {self.folder}")

    def close(self) -> None:
        """Wait for what is being written, and close the log."""
        self._keeper.wait()
        self.log_checkpoints()
        self.progress.close()
        self._note_dropped_output()
        if self._record is not None:
            self._record.close()


class Tally:
    """Adds up the losses of steps, logs steps and epochs, and stops the run at a loss that is not finite.

    `sums`: over the steps of the current epoch; they are stored in checkpoints.
    """

    def __init__(self, trainer: Trainer, journal: Journal) -> None:
        self._trainer, self._journal = trainer, journal
        self.sums: dict[str, float] = dict.fromkeys(_SUMS, 0.0)
        self._logged: Mapping[str, float] = {}  # seconds by kind, in the epoch events of this session
        self._loaded = NOTHING  # what the loader has done, in the same
        self.loader = NOTHING  # what it did in the last epoch that was logged

    @property
    def loss(self) -> float:
        """Mean loss over the finished epoch."""
        return self.sums["loss_sum"] / self._trainer.steps_per_epoch

    @property
    def images_per_second(self) -> float:
        """Images per second of the finished epoch."""
        return self._trainer.images_per_epoch / self.sums["wall_seconds"]

    def begin_epoch(self) -> None:
        """Starts the sums of another epoch."""
        self.sums = dict.fromkeys(_SUMS, 0.0)

    def read(self, epoch: int, steps_done: int) -> None:
        """Read the losses since the last read, if any, and log them. Raises UserError if one is not finite.

        epoch: the current one, with steps_done steps done.
        """
        trainer = self._trainer
        if not trainer.step.num_unread:
            return
        window = trainer.step.read()
        if window.first_bad is not None:
            self._end_for_loss(window, epoch, steps_done - window.num_steps + window.first_bad)
        self.sums["loss_sum"] += window.loss * window.num_steps
        self.sums["correct_sum"] += window.top1 / 100 * window.num_steps * trainer.global_batch_size
        lr, last = trainer.lr(epoch, steps_done - 1), epoch * trainer.steps_per_epoch + steps_done - 1
        self._journal.event("step", epoch=epoch, step=last, loss=window.loss, top1=window.top1, lr=lr)
        self._journal.progress.loss(window.loss, lr)

    def log_epoch(self, epoch: int, seconds: Mapping[str, float]) -> None:
        """Logs an epoch after all its steps were read. seconds: of this session so far, by kind."""
        trainer = self._trainer
        images, stage = trainer.images_per_epoch, trainer.stage(epoch)
        loaded = trainer.train_loader.activity
        self.loader, self._loaded = loaded.since(self._loaded), loaded
        self._journal.event(
            "epoch",
            epoch=epoch,
            steps=trainer.steps_per_epoch,
            loss=self.loss,
            top1=100 * self.sums["correct_sum"] / images,
            lr=trainer.lr(epoch, trainer.steps_per_epoch - 1),
            resolution=stage.resolution,
            **({"stage": stage.number} if trainer.config.schedule.stages else {}),
            images=images,
            images_replaced=trainer.train_loader.num_replaced,  # in all epochs of this session
            images_refused=trainer.train_loader.num_refused,  # by the device's decoder, likewise
            wall_seconds=self.sums["wall_seconds"],
            images_per_second=self.images_per_second,
            seconds={kind: value - self._logged.get(kind, 0.0) for kind, value in seconds.items()},
            queue={"filled": self.loader.filled_share, "empty": self.loader.empty_share},  # of rank 0's loader
            loader_seconds=dict(self.loader.seconds),
        )
        self._logged = seconds

    def _end_for_loss(self, window: Window, epoch: int, step: int) -> None:
        """Raises UserError on every rank, after logging the samples of the step."""
        trainer = self._trainer
        lr = trainer.lr(epoch, step)
        here = trainer.samples_of_step(epoch, step) if window.bad_here else None
        samples = {str(rank): sorted(set(found)) for rank, found in enumerate(trainer.world.gather(here)) if found is not None}
        self._journal.event("not_finite", epoch=epoch, step=step, loss=window.loss, lr=lr, samples=samples)
        rank, found = next(iter(samples.items()))
        few = ", ".join(map(str, found[:8])) + (f" and {len(found) - 8} more (in log.jsonl)" if len(found) > 8 else "")
        raise UserError(
            f"the loss is not finite at epoch {epoch + 1}, step {step + 1}, learning rate {lr:.3g}, on rank "
            f"{rank}, samples {few}; {self._journal.last_good()}; try a smaller optim.lr, more schedule.warmup_epochs, "
            "model.attention_dtype=float32, or train.amp=off"
        )


def loader_line(loader: Activity) -> str:
    """How full the loader's queue was in an epoch, and which stage of its thread was the slowest, in words."""
    stage, share = loader.slowest
    return (
        f"queue {100 * loader.filled_share:.0f} % full, empty at {100 * loader.empty_share:.0f} % of steps, loader mostly "
        f"{stage} ({100 * share:.0f} %)"
    )
