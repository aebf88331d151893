"""Computes a teacher's answers to the views of a run's epochs, once for all runs that learn from them: `deit-fast teach`."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.load.batch import Batch
from deit_fast.data.load.loader import Loader, train_loader
from deit_fast.labels.file import MAX_CLASSES, Header, LabelsWriter
from deit_fast.plan.placement import placed
from deit_fast.record.progress import Progress, dollars
from deit_fast.record.run import versions
from deit_fast.teach.answers import Ensemble, Teachers, create_teachers
from deit_fast.train import schedule
from deit_fast.train.dist import World, joined_world, world_size_of_environment
from deit_fast.train.learner import check_compiler
from deit_fast.train.low_frequencies import cropped
from deit_fast.train.stage_sets import StageSets, train_set_digests
from deit_fast.train.step import check_dtype, on_device, resolve_amp
from deit_fast.train.stop import Stop
from deit_fast.train.stored_labels import belongings

_BLOCK_VIEWS = 16384  # of a block, about: at most this is lost if a process dies
_FIRST_BATCHES = 5
_SECONDS = 3.0


def teach(config: RunConfig) -> dict[str, Any]:
    """`deit-fast teach`: writes the answers of distil.teacher, and those of teach.also, to teach.out.

    Ranks share the blocks of each epoch in turns; rank 0 writes them. The same command continues after an interruption, with
    any number of ranks. A signal ends it after the current blocks. Raises UserError for a configuration that cannot be taught,
    and if there are other labels of that name.
    """
    _check(config)
    started = time.monotonic()
    with joined_world(config.train.device) as world, Stop(world) as stop:
        check_dtype(config.data.dtype, resolve_amp(config.train.amp, world.device))
        check_compiler(config.train.compile, world.device)
        shown, lines = placed(shown_to_teacher(config), world, teaching_rate)
        for line in lines if world.is_main else ():
            print(line)
        with contextlib.closing(Teaching(shown, world)) as teaching:
            reason = teaching.run(stop)
            result = teaching.result(time.monotonic() - started, reason)
    if world.is_main:
        print(result.pop("line"))
    return result


def _check(config: RunConfig) -> None:
    if not config.teach.out:
        raise UserError("teach.out is not set: want the name of the file to write, such as labels.dfl")
    if not config.distil.teacher_weights:
        raise UserError("distil.teacher_weights is not set: want the file of the teacher's weights")
    if config.distil.labels:
        raise UserError(f"distil.labels={config.distil.labels}: deit-fast teach writes labels to teach.out; want it off")
    # the rest of a training run's conditions, except those on options that do nothing here
    as_run = config.changed({"distil.kind": "hard", "schedule.warmup_epochs": 0.0, "data.val": config.data.val or "none"})
    check_training(as_run, world_size_of_environment())
    epochs = config.teach.epochs
    if schedule.has_changing_views(config) and epochs not in (None, config.train.epochs):
        by = "schedule.stages" if config.schedule.stages else f"data.start_resolution={config.data.start_resolution}"
        raise UserError(
            f"teach.epochs={epochs}: with {by} the views of an epoch depend on its number in the run; "
            f"want all train.epochs={config.train.epochs}, or auto"
        )
    if config.teach.of == "views" and config.data.on_error == "replace":
        raise UserError(
            "teach.of=views: data.on_error=replace shows other images in other batches; want data.on_error=fail, or "
            "teach.of=mixed"
        )


def shown_to_teacher(config: RunConfig) -> RunConfig:
    """The configuration whose loader makes the views that the teacher is to see, as teach.of says."""
    if config.teach.of == "mixed":
        return config
    unmixed = {"augment.mix_probability": 0.0}
    return config.changed({**unmixed, "schedule.stages": tuple(stage | unmixed for stage in config.schedule.stages)})


def teaching_rate(config: RunConfig, world: World) -> float:
    """Images per second of this rank while its teachers see the first batches of a beton for a few seconds."""
    with contextlib.closing(_loader(config, world)) as loader:
        teachers = create_teachers(config, loader.beton.num_classes, world.device)
        ensemble = Ensemble(teachers, config.teach.top, resolve_amp(config.train.amp, world.device), world.device)
        batches = on_device(loader, world.device, channels_last=config.train.channels_last)
        for batch in itertools.islice(batches, _FIRST_BATCHES):  # compile, fill queues
            ensemble(batch.images)[0].cpu()
        num_images, started = 0, time.perf_counter()
        for batch in batches:
            ensemble(batch.images)[0].cpu()
            num_images += len(batch.images)
            if time.perf_counter() - started > _SECONDS:
                break
        batches.close()
        return num_images / (time.perf_counter() - started)


def _loader(config: RunConfig, world: World, stretches: list[list[range]] | None = None) -> Loader:
    ranks: dict[str, Any] = {"rank": world.rank, "world_size": world.world_size, "device": world.device}
    return train_loader(config.data, config.augment, seed=config.view_seed, stretches=stretches, **ranks)


class Teaching:
    """Fills a file of labels: one rank's loader and teachers, and on rank 0 the file's writer.

    config: its loader makes the views that the teachers are to see.
    """

    def __init__(self, config: RunConfig, world: World) -> None:
        self._config, self._world = config, world
        with contextlib.closing(_loader(config, world)) as loader:
            beton, of_stages = loader.beton, StageSets(config, loader, world).of_stages
        if beton.num_classes > MAX_CLASSES:
            raise UserError(f"{beton.name}: has {beton.num_classes:,} classes; want at most {MAX_CLASSES:,}")
        if config.teach.top > beton.num_classes:
            raise UserError(f"teach.top={config.teach.top}: want at most {beton.num_classes}, the classes of {beton.name}")
        teachers = create_teachers(config, beton.num_classes, world.device)
        self._ensemble = Ensemble(teachers, config.teach.top, resolve_amp(config.train.amp, world.device), world.device)
        self.header = _header(config, beton, of_stages, teachers, world.device)
        self._writer = world.only_on_main(lambda: LabelsWriter(config.teach.out, self.header))
        missing = world.only_on_main(lambda: self._writer.missing() if self._writer is not None else [])
        self._missing: list[list[int]] = world.gather(missing)[0]
        stretches = [[self.header.positions(block) for block in blocks] for blocks in self._missing]
        self._loader = _loader(config, world, stretches)
        self._sets = StageSets(config, self._loader, world, stretches)
        self._num_seen = 0

    def run(self, stop: Stop) -> str | None:
        """Fills the file, or part of it. Gives the name of the signal that ended this early, if one did."""
        header, size, num_ranks = self.header, self._config.data.batch_size, self._world.world_size
        own = [header.positions(block) for blocks in self._missing for block in blocks[self._world.rank :: num_ranks]]
        num_steps = sum(-(-len(positions) // size) for positions in own)
        progress = Progress(
            total_steps=num_steps, first_step=0, epochs=header.num_epochs,
            global_batch_size=size * num_ranks, dollars_per_hour=self._config.run.dollars_per_hour,
            is_shown=self._world.is_main,
        )  # fmt: skip
        with contextlib.closing(progress):
            for epoch, blocks in enumerate(self._missing):
                if blocks and (reason := self._teach_epoch(epoch, blocks, progress, stop)):
                    if self._writer is not None:
                        self._writer.flush()
                    return reason
        if self._writer is not None:
            self._writer.finish()
        return None

    def _teach_epoch(self, epoch: int, blocks: list[int], progress: Progress, stop: Stop) -> str | None:
        config, world = self._config, self._world
        stage = schedule.stage_of_epoch(config, epoch)
        self._sets.begin_epoch(epoch)
        self._sets.show(stage)
        self._loader.set_resolution(schedule.loaded_resolution(config, stage))
        self._loader.set_augment(stage.augment)
        self._loader.set_epoch(epoch)
        batches = on_device(self._loader, world.device, channels_last=config.train.channels_last)
        batches = cropped(batches, stage.resolution)
        with contextlib.closing(batches):
            for first in range(0, len(blocks), world.world_size):
                own = blocks[first + world.rank : first + world.rank + 1]
                answers = [self._block(self.header.positions(block), batches, epoch, progress) for block in own]
                found = world.gather((own, answers))
                world.only_on_main(lambda found=found: self._write(epoch, found))  # type: ignore[misc]
                if (reason := stop.agreed()) is not None:
                    return reason
        progress.say(f"epoch {epoch + 1}/{self.header.num_epochs}: all {self.header.num_positions:,} views are answered")
        return None

    def _block(self, positions: range, batches: Iterator[Batch], epoch: int, progress: Progress) -> NDArray[np.void]:
        """The answers (views,), of `Header.entry`, to the views of a block, which the next batches hold."""
        parts = []
        for _ in range(positions.start, positions.stop, self._config.data.batch_size):
            batch = next(batches)
            parts.append(self._ensemble(batch.images))
            self._num_seen += len(batch.images)
            progress.step(epoch)
        classes, probabilities = (torch.cat(kind).cpu().numpy() for kind in zip(*parts, strict=True))  # waits for the device
        entries = np.empty(len(positions), self.header.entry)
        entries["classes"] = classes
        if self.header.top > 1:
            entries["probabilities"] = probabilities
        return entries

    def _write(self, epoch: int, found: list[tuple[list[int], list[NDArray[np.void]]]]) -> None:
        assert self._writer is not None
        for blocks, answers in found:
            for block, entries in zip(blocks, answers, strict=True):
                self._writer.write(epoch, block, entries)

    def result(self, seconds: float, reason: str | None) -> dict[str, Any]:
        """What --out writes, and a `line` that sums it up."""
        header, config = self.header, self._config
        views = sum(self._world.gather(self._num_seen))
        names = ", ".join(teacher["name"] for teacher in header.teachers)
        cost = ""
        if config.run.dollars_per_hour is not None:
            cost = f", ${dollars(seconds, config.run.dollars_per_hour):,.2f}"
        line = (
            f"{config.teach.out}: answers of {names} to {header.num_epochs} epochs of {header.num_positions:,} views, "
            f"{header.num_bytes:,} bytes; {views:,} views now, in {seconds:,.0f} s{cost}"
        )
        if reason is not None:
            line = f"stopped by {reason} after {views:,} views; the same command continues {config.teach.out}.part"
        return {
            "line": line,
            "labels": config.teach.out,
            "stopped": reason or "",
            "epochs": header.num_epochs,
            "views_per_epoch": header.num_positions,
            "bytes": header.num_bytes,
            "teachers": header.teachers,
            "views_taught": views,
            "seconds": seconds,
            "views_per_second": views / seconds,
        }

    def close(self) -> None:
        """Ends the loader's thread."""
        self._loader.close()


def _header(
    config: RunConfig, beton: BetonSet, of_stages: Mapping[str, BetonSet], teachers: Teachers, device: torch.device
) -> Header:
    size, num_samples = config.data.batch_size, config.data.subset or beton.num_samples
    amp = resolve_amp(config.train.amp, device)
    return Header(
        of=config.teach.of,
        top=config.teach.top,
        num_classes=beton.num_classes,
        num_epochs=config.teach.epochs or config.train.epochs,
        num_positions=num_samples // size * size if config.teach.of == "mixed" else num_samples,
        block_size=max(1, _BLOCK_VIEWS // size) * size,
        belongs=belongings(config, train_set_digests(config, beton, of_stages), config.teach.of),
        teachers=[{"name": name, "digest": teacher.digest} for name, teacher in teachers],
        facts={"versions": versions(), "amp": amp, "device": device.type},
    )
