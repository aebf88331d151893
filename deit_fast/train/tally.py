"""Adds up the losses of steps, logs steps and epochs, and stops the run at a loss that is not finite."""

from __future__ import annotations

from collections.abc import Mapping

from deit_fast.config import UserError
from deit_fast.train.journal import Journal
from deit_fast.train.step import Window
from deit_fast.train.trainer import Trainer

_SUMS = ("loss_sum", "correct_sum", "wall_seconds")


class Tally:
    """Sums over the steps of the current epoch. `sums` are stored in checkpoints."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.sums: dict[str, float] = dict.fromkeys(_SUMS, 0.0)
        self._logged: Mapping[str, float] = {}  # seconds by kind, in the epoch events of this session

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

    def read(self, journal: Journal, epoch: int, steps_done: int) -> None:
        """Read the losses since the last read, if any, and log them. Raises UserError if one is not finite.

        epoch: the current one, with steps_done steps done.
        """
        trainer = self._trainer
        if not trainer.step.num_unread:
            return
        window = trainer.step.read()
        if window.first_bad is not None:
            self._end_for_loss(journal, window, epoch, steps_done - window.num_steps + window.first_bad)
        self.sums["loss_sum"] += window.loss * window.num_steps
        self.sums["correct_sum"] += window.top1 / 100 * window.num_steps * trainer.global_batch_size
        lr, last = trainer.lr(epoch, steps_done - 1), epoch * trainer.steps_per_epoch + steps_done - 1
        journal.event("step", epoch=epoch, step=last, loss=window.loss, top1=window.top1, lr=lr)
        journal.progress.loss(window.loss, lr)

    def log_epoch(self, journal: Journal, epoch: int, seconds: Mapping[str, float]) -> None:
        """Logs an epoch after all its steps were read. seconds: of this session so far, by kind."""
        trainer = self._trainer
        images = trainer.images_per_epoch
        journal.event(
            "epoch",
            epoch=epoch,
            steps=trainer.steps_per_epoch,
            loss=self.loss,
            top1=100 * self.sums["correct_sum"] / images,
            lr=trainer.lr(epoch, trainer.steps_per_epoch - 1),
            resolution=trainer.resolution(epoch),
            images=images,
            images_replaced=trainer.train_loader.num_replaced,  # in all epochs of this session
            images_refused=trainer.train_loader.num_refused,  # by the device's decoder, likewise
            wall_seconds=self.sums["wall_seconds"],
            images_per_second=self.images_per_second,
            seconds={kind: value - self._logged.get(kind, 0.0) for kind, value in seconds.items()},
        )
        self._logged = seconds

    def _end_for_loss(self, journal: Journal, window: Window, epoch: int, step: int) -> None:
        """Raises UserError on every rank, after logging the samples of the step."""
        trainer = self._trainer
        lr = trainer.lr(epoch, step)
        here = trainer.samples_of_step(epoch, step) if window.bad_here else None
        samples = {str(rank): sorted(set(found)) for rank, found in enumerate(trainer.world.gather(here)) if found is not None}
        journal.event("not_finite", epoch=epoch, step=step, loss=window.loss, lr=lr, samples=samples)
        rank, found = next(iter(samples.items()))
        few = ", ".join(map(str, found[:8])) + (f" and {len(found) - 8} more (in log.jsonl)" if len(found) > 8 else "")
        raise UserError(
            f"the loss is not finite at epoch {epoch + 1}, step {step + 1}, learning rate {lr:.3g}, on rank "
            f"{rank}, samples {few}; {journal.last_good()}; try a smaller optim.lr, more schedule.warmup_epochs, "
            "model.attention_dtype=float32, or train.amp=off"
        )
