"""Takes a beton, gives batches: images, targets, sample ids and view numbers, prepared ahead by a thread of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffcv.loader
import numba
import numpy as np
import torch
from ffcv.loader.epoch_iterator import select_buffer
from ffcv.pipeline.compiler import Compiler

from deit_fast.augment import rng
from deit_fast.config import AugmentConfig, DataConfig, UserError, eval_batch_size, eval_crop_ratio, eval_resolution
from deit_fast.data import order
from deit_fast.data.beton import Beton, open_beton
from deit_fast.data.ops import DecodeEvalViews, DecodeTrainViews, Finish, Label, SoftTargets

_POLL_SECONDS = 0.1  # how often a blocked thread looks whether it is to stop


@dataclass(frozen=True)
class Batch:
    """Views of one rank. The tensors are valid until the next batch is asked for: their memory is used again.

    images: (B, 3, H, W) float32, channels-last in memory, normalised. targets: (B, C) float32 soft targets in training,
    (B,) int64 labels in evaluation. samples: (B,) int64, on the CPU. views: (B,) int64, on the CPU.
    """

    images: torch.Tensor
    targets: torch.Tensor
    samples: torch.Tensor
    views: torch.Tensor


@contextmanager
def _generating_code() -> Iterator[None]:
    """FFCV generates code without compiling it: our operations call functions that are compiled already.

    FFCV also sets PyTorch's number of threads; that is put back."""
    torch_threads = torch.get_num_threads()
    Compiler.set_enabled(False)
    try:
        yield
    finally:
        Compiler.set_enabled(True)
        torch.set_num_threads(torch_threads)


class _Producer:
    """A thread that fills slots of memory with batches, and the queue through which they come.

    Stands in for FFCV's `EpochIterator`, whose thread ends silently on any exception and leaves the consumer waiting for
    ever, and outlives a loop that was left early. Here an exception is raised in the consumer, and `close` ends the thread.
    """

    def __init__(self, loader: Loader, batches: Sequence[np.ndarray]) -> None:
        self._loader = loader
        self._batches = batches
        self._queue: queue.Queue[tuple[int, tuple[np.ndarray, ...]] | BaseException] = queue.Queue(loader.batches_ahead)
        self._stop = threading.Event()
        self._copied: list[torch.cuda.Event | None] = [None] * loader.num_slots
        self._thread = threading.Thread(target=self._run, name="deit_fast-loader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            numba.set_num_threads(self._loader.num_workers)
            with self._loader.memory_manager.schedule_epoch([rng.sample_of(ids) for ids in self._batches]) as context:
                for number, ids in enumerate(self._batches):
                    slot = number % self._loader.num_slots
                    copied = self._copied[slot]
                    if copied is not None:
                        copied.synchronize()
                    context.start_batch(number)
                    self._put((slot, self._loader.run_stages(ids, slot, context.state)))
                    if self._stop.is_set():
                        return
        except BaseException as error:
            self._put(error)

    def _put(self, item: tuple[int, tuple[np.ndarray, ...]] | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _get(self) -> tuple[int, tuple[np.ndarray, ...]]:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            return item
        raise RuntimeError("this iteration of the loader was ended, by close() or by a later iteration")

    def __iter__(self) -> Iterator[Batch]:
        for ids in self._batches:
            slot, (images_BHWC, targets) = self._get()
            yield self._to_batch(slot, images_BHWC, targets, ids)

    def _to_batch(self, slot: int, images_BHWC: np.ndarray, targets: np.ndarray, ids: np.ndarray) -> Batch:
        device = self._loader.device
        images = torch.from_numpy(images_BHWC).to(device, non_blocking=True).permute(0, 3, 1, 2)
        targets_on_device = torch.from_numpy(targets).to(device, non_blocking=True)
        if device.type == "cuda":
            # the slot is filled again only after the copies out of it are done
            event = torch.cuda.Event()
            event.record()
            self._copied[slot] = event
        if not self._loader.is_training:
            targets_on_device = targets_on_device[:, 0]
        samples = torch.from_numpy(rng.sample_of(ids).astype(np.int64))
        return Batch(images, targets_on_device, samples, torch.from_numpy(rng.view_of(ids).astype(np.int64)))

    def close(self) -> None:
        """End the thread and wait for it, and for copies out of its memory; it may finish the batch that it is at."""
        self._stop.set()
        self._thread.join()
        for copied in self._copied:
            if copied is not None:
                copied.synchronize()


class Loader(ffcv.loader.Loader):
    """Batches of one epoch at a time on one rank. One iteration at a time: a new one ends the one before."""

    def __init__(
        self,
        beton: Beton,
        pipelines: dict[str, Any],
        batches_of_epoch: Callable[[int, int], Sequence[np.ndarray]],
        *,
        batch_size: int,
        num_workers: int,
        batches_ahead: int,
        device: torch.device,
        is_training: bool,
    ) -> None:
        self.beton = beton
        self.device = device
        self.is_training = is_training
        self.num_slots = batches_ahead + 2  # those ahead, one with the consumer, one being filled
        self._sized = [op for pipeline in pipelines.values() for op in pipeline or () if hasattr(op, "resolution")]
        self._decoder = pipelines["image"][0]
        self._batches_of_epoch = batches_of_epoch
        self._epoch, self._first_step = 0, 0
        self._memory: dict[str, dict[int, Any]] | None = None
        self._producer: _Producer | None = None
        self.code: tuple[list[Any], list[int]] | None
        with _generating_code():
            super().__init__(
                str(beton.path),
                batch_size=batch_size,
                num_workers=num_workers,
                os_cache=True,
                pipelines=pipelines,
                batches_ahead=batches_ahead,
                drop_last=False,
            )
        self._decoder_id = next(node.id for node in self.graph.nodes if getattr(node, "decoder", None) is self._decoder)

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """The next iteration shows this epoch, from its first_step on."""
        self._epoch, self._first_step = epoch, first_step

    def set_resolution(self, resolution: int) -> None:
        """The side of a view in pixels from the next iteration on."""
        if resolution == self._decoder.resolution:
            return
        self.close()
        for operation in self._sized:
            operation.resolution = resolution
        self.code, self._memory = None, None

    def __len__(self) -> int:
        return len(self._batches_of_epoch(self._epoch, self._first_step))

    def __iter__(self) -> Iterator[Batch]:
        self.close()
        with _generating_code():
            if self.code is None:
                self.generate_code()
            if self._memory is None:
                self._memory = self.graph.allocate_memory(self.batch_size, self.num_slots)
        producer = _Producer(self, self._batches_of_epoch(self._epoch, self._first_step))
        self._producer = producer
        try:
            yield from producer
        finally:
            producer.close()

    def close(self) -> None:
        """End the iteration that is on, if any, and its thread."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def run_stages(self, ids: np.ndarray, slot: int, storage_state: Any) -> tuple[np.ndarray, ...]:
        """FFCV's stages on one batch: images (B, H, W, 3) float32 and targets or labels, in the slot's memory.

        ids (B,) uint64. Raises RankError, from `_DecodeViews.check`, if an image does not decode."""
        assert self._memory is not None
        assert self.code is not None
        arguments: dict[str, Any] = {
            "batch_indices": ids,
            "storage_state": storage_state,
            "metadata": self.reader.metadata,
        }
        for kind, prefix in (("operation", "memory"), ("shared", "shared_memory")):
            for node_id, memory in self._memory[kind].items():
                arguments[f"{prefix}_{node_id}"] = select_buffer(memory, slot, len(ids))
        stages, outputs = self.code
        for run_stage, defined in stages:
            for node_id, result in zip(defined, run_stage(**arguments), strict=False):
                arguments[f"result_{node_id}"] = result
        statuses = arguments[f"memory_{self._decoder_id}"][1]
        self._decoder.check(statuses, ids, storage_state)
        return tuple(arguments[f"result_{node_id}"] for node_id in outputs)


def num_threads(config: DataConfig, world_size: int) -> int:
    """Threads that prepare batches on this rank. Raises UserError if more are asked for than Numba can start."""
    available = numba.config.NUMBA_NUM_THREADS
    if config.num_workers > available:
        raise UserError(f"data.num_workers={config.num_workers}: want at most the {available} cores of this machine, or 0")
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return config.num_workers or max(1, available // local_ranks)


def _other_fields(beton: Beton) -> dict[str, None]:
    """Fields of the beton that are not loaded."""
    return {name: None for name in beton.field_names if name not in ("image", "label")}


def train_loader(
    config: DataConfig, augment: AugmentConfig, *, seed: int, rank: int, world_size: int, device: torch.device
) -> Loader:
    """Augmented batches of config.train for one rank. Raises UserError on a beton that cannot be used."""
    beton = open_beton(Path(config.train))

    def batches_of_epoch(epoch: int, first_step: int) -> Sequence[np.ndarray]:
        ids: np.ndarray = order.train_batches(
            beton.num_samples,
            seed=seed,
            epoch=epoch,
            batch_size=config.batch_size,
            repeats=augment.repeats,
            rank=rank,
            world_size=world_size,
            first_step=first_step,
        )
        return list(ids)

    pipelines = {
        "image": [DecodeTrainViews(config.resolution, seed, augment, config.interpolation), Finish(augment, seed)],
        "label": [Label(), SoftTargets(beton.num_classes, config.resolution, augment, seed)],
        **_other_fields(beton),
    }
    return Loader(
        beton,
        pipelines,
        batches_of_epoch,
        batch_size=config.batch_size,
        num_workers=num_threads(config, world_size),
        batches_ahead=config.batches_ahead,
        device=device,
        is_training=True,
    )


def eval_loader(config: DataConfig, augment: AugmentConfig, *, rank: int, world_size: int, device: torch.device) -> Loader:
    """Batches of config.val: every image of the set exactly once over all ranks. Of augment only mean and std matter."""
    beton = open_beton(Path(config.val))
    batch_size = eval_batch_size(config)
    resolution = eval_resolution(config)

    def batches_of_epoch(epoch: int, first_step: int) -> Sequence[np.ndarray]:
        batches = order.eval_batches(beton.num_samples, batch_size=batch_size, rank=rank, world_size=world_size)
        return batches[first_step:]

    pipelines = {
        "image": [DecodeEvalViews(resolution, eval_crop_ratio(config), config.interpolation), Finish(augment, None)],
        "label": [Label()],
        **_other_fields(beton),
    }
    return Loader(
        beton,
        pipelines,
        batches_of_epoch,
        batch_size=batch_size,
        num_workers=num_threads(config, world_size),
        batches_ahead=config.batches_ahead,
        device=device,
        is_training=False,
    )
