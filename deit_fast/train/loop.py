"""Takes the configuration of a run, gives its trained model, record and checkpoints."""

from __future__ import annotations

import hashlib
import math
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.model.create import num_parameters
from deit_fast.record.clock import Clock
from deit_fast.record.run import RunRecord, open_run
from deit_fast.train.checkpoint import link_checkpoint, load_checkpoint, save_checkpoint
from deit_fast.train.dist import joined_world, world_size_of_environment
from deit_fast.train.trainer import Trainer

LAST, BEST = "last.pt", "best.pt"


def train(config: RunConfig, command: list[str]) -> dict[str, Any]:
    """`deit-fast train`: a run from its first epoch, or from its last checkpoint, to its end. Gives the run's summary.

    command: as the record is to show it. Raises UserError for whatever the user can mend, before the run's folder is made
    where that can be known; and when the loss is no longer finite.
    """
    clock = Clock()
    check_training(config, world_size_of_environment())
    with joined_world(config.train.device) as world:
        trainer = Trainer(config, world)
        try:
            return Run(trainer, clock, command).train()
        finally:
            trainer.close()


class Run:
    """A run in its folder: epochs, evaluations, checkpoints, events. Only rank 0 writes."""

    def __init__(self, trainer: Trainer, clock: Clock, command: list[str]) -> None:
        self._trainer, self._clock = trainer, clock
        self._config, self._world = trainer.config, trainer.world
        self._first_epoch = 0
        self._seconds_logged: dict[str, float] = {}  # by kind, in the epoch events of this session
        self._best: dict[str, Any] = {"best_top1": -1.0, "best_weights": "model", "best_epoch": -1}
        folder = Path(self._config.run.dir or f"runs/{self._config.model.name}-{datetime.now():%Y%m%d-%H%M%S}")
        self._last_checkpoint = folder / "checkpoints" / LAST
        if self._config.train.resume and self._last_checkpoint.exists():
            self._resume()
        self._record: RunRecord | None = None
        if self._world.is_main:
            self._record = open_run(folder, self._config, command, self._config.train.resume)

    def _resume(self) -> None:
        content = load_checkpoint(self._last_checkpoint)
        self._trainer.load_state(content, self._last_checkpoint)
        self._first_epoch = content["epoch"] + 1
        self._best = {key: content[key] for key in self._best}
        self._clock.add_earlier(content["seconds"])
        if self._world.is_main:
            # what a kill between the writing of a checkpoint and its naming left undone, or half-written
            if content["best_epoch"] == content["epoch"]:
                link_checkpoint(self._last_checkpoint, BEST)
            for part in self._last_checkpoint.parent.glob(".*.part"):
                part.unlink()

    def _event(self, event: str, **fields: Any) -> None:
        if self._record is not None:
            self._record.log.write(event, **fields)

    def train(self) -> dict[str, Any]:
        """Every epoch that is left, and the summary. Raises UserError when the loss is not finite."""
        trainer, epochs = self._trainer, self._config.train.epochs
        self._event(
            "start",
            epoch=self._first_epoch,
            steps_per_epoch=trainer.steps_per_epoch,
            world_size=self._world.world_size,
            global_batch_size=trainer.global_batch_size,
            device=str(self._world.device),
            amp=trainer.step.amp,
            lr=trainer.peak_lr,
            num_parameters=num_parameters(trainer.model),
        )
        for epoch in range(self._first_epoch, epochs):
            self._train_epoch(epoch)
            is_last = epoch == epochs - 1
            is_best = False
            if is_last or (epoch + 1) % self._config.train.eval_every == 0:
                with self._clock.during("evaluation"):
                    is_best = self._evaluate(epoch)
            with self._clock.during("checkpoint"):
                self._save(epoch, is_best)
        return self._finish()

    def _train_epoch(self, epoch: int) -> None:
        trainer, clock = self._trainer, self._clock
        started = time.perf_counter()
        loss_sum, losses_from, lr = 0.0, 0, 0.0
        # the first batch and, where it is asked for, the first step of a process include compilation
        is_first = epoch == self._first_epoch
        clock.switch("compile" if is_first else "data_wait")
        batches = trainer.batches(epoch)
        progress = tqdm(
            total=trainer.steps_per_epoch, desc=f"epoch {epoch + 1}", unit="step", leave=False,
            disable=None if self._world.is_main else True,
        )  # fmt: skip
        for step, batch in enumerate(batches):
            clock.switch("compile" if is_first and step == 0 and self._config.train.compile != "off" else "compute")
            lr = trainer.set_lr(epoch, step)
            trainer.step(batch.images, batch.targets, epoch, step)
            is_end = step == trainer.steps_per_epoch - 1
            if is_end or (step + 1) % self._config.train.log_every == 0:
                loss = self._read_loss(epoch, step, lr)
                loss_sum += loss * (step + 1 - losses_from)
                losses_from = step + 1
            progress.update()
            clock.switch("data_wait")
        clock.switch("other")
        progress.close()
        seconds = clock.seconds()
        wall_seconds = time.perf_counter() - started
        images = trainer.steps_per_epoch * trainer.global_batch_size
        self._event(
            "epoch",
            epoch=epoch,
            steps=trainer.steps_per_epoch,
            loss=loss_sum / trainer.steps_per_epoch,
            lr=lr,
            resolution=batch.images.shape[-1],
            images=images,
            images_replaced=trainer.train_loader.num_replaced,  # in all epochs of this session
            wall_seconds=wall_seconds,
            images_per_second=images / wall_seconds,
            seconds={kind: value - self._seconds_logged.get(kind, 0.0) for kind, value in seconds.items()},
        )
        self._seconds_logged = seconds

    def _read_loss(self, epoch: int, step: int, lr: float) -> float:
        loss = self._trainer.step.read_loss()
        if not math.isfinite(loss):
            last = self._last_checkpoint
            good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
            raise UserError(
                f"the loss is {loss} at epoch {epoch + 1}, step {step + 1}, learning rate {lr:.3g}; {good}; try a smaller "
                "optim.lr, more schedule.warmup_epochs, or train.amp=off"
            )
        self._event("step", epoch=epoch, step=epoch * self._trainer.steps_per_epoch + step, loss=loss, lr=lr)
        return loss

    def _evaluate(self, epoch: int) -> bool:
        """Evaluate and log; whether this is the best so far."""
        results = self._trainer.evaluate()
        is_best = False
        for weights, result in results.items():
            self._event("eval", epoch=epoch, weights=weights, **result)
            if result["top1"] > self._best["best_top1"]:
                self._best = {"best_top1": result["top1"], "best_weights": weights, "best_epoch": epoch}
                is_best = True
        if self._world.is_main:
            tops = ", ".join(f"{weights} {result['top1']:.2f} %" for weights, result in results.items())
            print(f"epoch {epoch + 1}/{self._config.train.epochs}: top-1 {tops}", flush=True)
        return is_best

    def _save(self, epoch: int, is_best: bool) -> None:
        if self._record is None:
            return
        path = self._last_checkpoint
        seconds = self._clock.total_seconds()
        save_checkpoint(path, {"epoch": epoch, "seconds": seconds, **self._best, **self._trainer.state()})
        if is_best:
            link_checkpoint(path, BEST)
        self._event("checkpoint", epoch=epoch, path=str(path.relative_to(self._record.folder)), best=is_best)

    def _finish(self) -> dict[str, Any]:
        digests = self._world.gather(_digest(self._trainer.model))
        assert len(set(digests)) == 1, f"the ranks end with different weights: {digests}"
        seconds = self._clock.total_seconds()
        summary = {
            "epoch": self._config.train.epochs - 1,
            "wall_seconds": sum(seconds.values()),
            "seconds": seconds,
            **self._best,
            "weights_sha256": digests[0],
            "checkpoint": f"checkpoints/{BEST}",  # in the folder of the run
        }
        if self._record is not None:
            self._event("end", **summary)
            self._record.finish(summary)
            self._record.close()
            best = f"{self._best['best_top1']:.2f} % ({self._best['best_weights']}, epoch {self._best['best_epoch'] + 1})"
            print(f"best top-1 {best}; {summary['wall_seconds']:.1f} s; {self._record.folder}")
        return summary


def _digest(model: nn.Module) -> str:
    """SHA-256 over the bytes of all parameters, in order."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
