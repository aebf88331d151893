"""Takes operations and an order, gives batches: images, targets, sample ids and view numbers, prepared ahead by a thread."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from ffcv.pipeline.operation import Operation

from deit_fast.config import DataConfig, RankError, UserError, check_option
from deit_fast.data.format.beton import Beton
from deit_fast.data.load.order import EvalOrder, TrainOrder
from deit_fast.data.load.pipeline import MappedBeton, Pipeline
from deit_fast.data.load.read_ahead import ReadAhead
from deit_fast.data.load.threading_layer import check_threads, one_at_a_time
from deit_fast.kernels import rng

_POLL_SECONDS = 0.1  # how often a blocked thread looks whether it is to stop


@dataclass(frozen=True)
class Batch:
    """Views of one rank. Their memory is used again once nobody holds the tensors, nor anything that shares their memory.

    images: (B, 3, H, W) of data.dtype, channels-last in memory; normalised unless uint8. targets: (B, C) float32 soft targets
    in training, (B,) int64 labels in evaluation. samples: (B,) int64, on the CPU. views: (B,) int64, on the CPU.
    """

    images: torch.Tensor
    targets: torch.Tensor
    samples: torch.Tensor
    views: torch.Tensor


@dataclass(frozen=True, eq=False)
class Made:
    """A batch in slots, as arrays; or on the device, as tensors, and whole there after the event `ready`.

    images (B, H, W, 3); ids (B,) uint64 are those of the views that it shows.
    """

    images: np.ndarray | torch.Tensor
    targets: np.ndarray | torch.Tensor
    ids: np.ndarray
    ready: torch.cuda.Event | None = None


class _Producer:
    """A thread that makes batches, and the queue through which they come.

    Stands in for FFCV's `EpochIterator`, whose thread ends silently on any exception and leaves the consumer waiting for
    ever, and outlives a loop that was left early. Here an exception is raised in the consumer, and `close` ends the thread.
    """

    def __init__(self, loader: Loader, batches: Sequence[np.ndarray], read_ahead: ReadAhead | None) -> None:
        self._loader = loader
        self._batches = batches
        self._read_ahead = read_ahead
        self._queue: queue.Queue[Made | BaseException] = queue.Queue(loader.batches_ahead)
        self._stop = threading.Event()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="deit_fast-loader", daemon=True)
        # a thread in compiled code must not outlive the memory that it writes to, which goes when the interpreter ends
        atexit.register(self.close)
        self._thread.start()

    def _run(self) -> None:
        try:
            numba.set_num_threads(self._loader.num_workers)
            for number, ids in enumerate(self._batches):
                if self._read_ahead is not None:
                    self._read_ahead.advance(self._loader.first_step + number)
                self._put(self._loader.make_batch(ids))  # and held by no name here: its slots are to become free
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, item: Made | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _get(self) -> Made:
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
        for _ in self._batches:
            yield self._to_batch(self._get())

    def _to_batch(self, made: Made) -> Batch:
        images_BHWC, targets = self._taken(made) if isinstance(made.images, torch.Tensor) else self._transferred(made)
        images = images_BHWC.permute(0, 3, 1, 2)
        if not self._loader.is_training:
            targets = targets[:, 0]
        return Batch(images, targets, *_shown(made.ids))

    def _transferred(self, made: Made) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, H, W, 3) and targets on the device, copied there on the current stream."""
        assert isinstance(made.images, np.ndarray) and isinstance(made.targets, np.ndarray)
        device = self._loader.device
        images = torch.from_numpy(made.images)
        if self._loader.is_bfloat16:
            images = images.view(torch.bfloat16)
        images = images.to(device, non_blocking=True)
        targets = torch.from_numpy(made.targets).to(device, non_blocking=True)
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
            self._loader.read_until(made.images, made.targets, event)
        return images, targets

    def _taken(self, made: Made) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and targets that were made on the device, for the current stream, which waits for them."""
        assert isinstance(made.images, torch.Tensor) and isinstance(made.targets, torch.Tensor)
        if made.ready is not None:
            stream = torch.cuda.current_stream(self._loader.device)
            stream.wait_event(made.ready)
            for tensor in (made.images, made.targets):
                tensor.record_stream(stream)  # memory of the loader's stream, which is to leave it alone until this one is done
        return made.images, made.targets

    def close(self) -> None:
        """End the thread and wait for it, and for copies out of its memory; it may finish the batch that it is at.

        In a process that was forked meanwhile there is no such thread, and nothing to wait for.
        """
        atexit.unregister(self.close)
        if self._process != os.getpid():
            return
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        if self._read_ahead is not None:
            self._read_ahead.close()
        self._loader.rest()


class Loader:
    """Batches of one epoch at a time on one rank. One iteration at a time: a new one ends the one before.

    `num_replaced` counts the images that did not decode and were replaced by others, in all epochs so far. Pickled or copied,
    it is made anew on the other side, by `remake`, for the same steps of the same epoch.
    """

    def __init__(
        self,
        beton: Beton,
        image_operations: Sequence[Operation],
        label_operations: Sequence[Operation],
        order: TrainOrder | EvalOrder,
        *,
        config: DataConfig,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        is_training: bool,
        remake: Callable[[], Loader],
    ) -> None:
        check_threads()
        self._remake = remake
        self.beton = beton
        self.device = device
        self.is_training = is_training
        self.is_bfloat16 = config.dtype == "bfloat16"
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.batches_ahead = config.batches_ahead
        self.num_slots = num_slots(config)
        self.num_replaced = 0
        self._replaces = is_training and config.on_error == "replace"
        self._sized = [op for op in (*image_operations, *label_operations) if hasattr(op, "resolution")]
        self._mapped = MappedBeton(beton)
        self._images = Pipeline(image_operations, self._mapped, "image")
        self._labels = Pipeline(label_operations, self._mapped, "label")
        self._decoder: Any = image_operations[0]
        self.order = order
        self._epoch, self.first_step = 0, 0
        self._is_prepared = False
        self._producer: _Producer | None = None

    @property
    def num_refused(self) -> int:
        """JPEGs that the device's decoder left to the CPU's, in all epochs so far."""
        return 0

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """The next iteration shows this epoch, from its first_step on."""
        if not 0 <= epoch < rng.MAX_EPOCHS or first_step < 0:
            raise UserError(f"epoch={epoch}, first_step={first_step}: want 0 to {rng.MAX_EPOCHS - 1}, and 0 or more")
        self._epoch, self.first_step = epoch, first_step

    def set_resolution(self, resolution: int) -> None:
        """The side of a view in pixels from the next iteration on."""
        check_option("data.resolution", resolution)
        if resolution == self._decoder.resolution:
            return
        self.close()
        for operation in self._sized:
            operation.resolution = resolution
        self._is_prepared = False

    def __len__(self) -> int:
        return max(0, self.order.steps_per_epoch - self.first_step)

    def __reduce__(self) -> tuple[Any, ...]:
        place = self._epoch, self.first_step, self._decoder.resolution, self.num_replaced
        return _remade, (self._remake, *place)

    def __iter__(self) -> Iterator[Batch]:
        check_threads()
        self.close()
        self._prepare()
        schedule = self.order.read_schedule(self._epoch, self.first_step)
        read_ahead = None
        if schedule is not None:
            read_ahead = ReadAhead(self.beton.path, self._mapped.memory, schedule, steps_behind=self.num_slots)
        producer = _Producer(self, list(self.order.batches(self._epoch, self.first_step)), read_ahead)
        self._producer = producer
        try:
            yield from producer
        finally:
            producer.close()
            if self._producer is producer:  # else loader and producer hold each other, until Python looks for cycles
                self._producer = None

    def _prepare(self) -> None:
        if not self._is_prepared:
            for pipeline in (self._images, self._labels):
                pipeline.prepare(self.batch_size, self.num_slots, pinned=self.device.type == "cuda")
            self._is_prepared = True

    def code_of(self, *, decoding: bool) -> list[Any]:
        """The Python functions that call what is compiled: those that decode images, or those that make batches of views."""
        self._prepare()
        return self._images.code[:1] if decoding else self._images.code[1:] + self._labels.code

    def try_out(self, *, decoding: bool) -> None:
        """Runs `code_of` once, on the first images of the epoch or on undefined views, so that all of it is compiled."""
        self._prepare()
        (ids, *_), slot = self.order.batches(self._epoch, self.first_step), self._images.slots.take()
        if decoding:
            self._images.decode(ids, slot, slice(0, len(ids)))
        else:
            self._images.run_rest(self._images.memory(0, slot, slice(0, len(ids)))[0], ids, slot)
            self._labels.run(ids, self._labels.slots.take())
            _shown(ids)

    def close(self) -> None:
        """End the iteration that is on, if any, and its thread."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def make_batch(self, ids: np.ndarray) -> Made:
        """A batch in slots of its own. ids (B,) uint64. Raises RankError if an image does not decode and is to be fatal."""
        slot, labels_slot = self._images.slots.take(), self._labels.slots.take()
        with one_at_a_time():
            views = self._images.decode(ids, slot, slice(0, len(ids)))
            ids = self._replaced(ids, slot)
            return Made(self._images.run_rest(views, ids, slot), self._labels.run(ids, labels_slot), ids)

    def read_until(self, images: np.ndarray, targets: np.ndarray, event: torch.cuda.Event) -> None:
        """A GPU copies from the memory of a batch until the event."""
        self._images.slots.read_until(images, event)
        self._labels.slots.read_until(targets, event)

    def rest(self) -> None:
        """No batch is made for now: wait until no GPU copies from any, and keep the memory of the usual number."""
        for pipeline in (self._images, self._labels):
            pipeline.slots.rest()

    def _replaced(self, ids: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """The ids, those of images that did not decode replaced by the next in the beton that does, and its view decoded."""
        _, statuses, locations, _ = self._images.memory(0, slot, slice(0, len(ids)))
        if not statuses.any():
            return ids
        for tries in range(self.beton.num_samples + 1):
            failures = self._decoder.failures(statuses, ids, locations)
            if not failures:
                break
            if not self._replaces or tries == self.beton.num_samples or isinstance(self.order, EvalOrder):
                raise RankError(
                    f"{failures[0][1]}; the beton is damaged, write it again, or let data.on_error=replace put others in place"
                )
            ids = ids.copy()
            for position, line in failures:
                self.num_replaced += 1
                following = self.order.sample_after(int(rng.sample_of(ids[position])))
                shown = set(rng.sample_of(ids).tolist())  # an image that is there already could be mixed with itself
                while following in shown and len(shown) < len(self.order.samples):
                    following = self.order.sample_after(following)
                print(f"deit_fast: {line}; sample {following} stands in for it", file=sys.stderr)
                ids[position] = ids[position] - rng.sample_of(ids[position]) + np.uint64(following)
                here = slice(position, position + 1)
                self._images.decode(ids[here], slot, here)
        return ids


def _shown(ids: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and view numbers (B,) int64 of views with ids (B,) uint64."""
    return torch.from_numpy(rng.sample_of(ids).astype(np.int64)), torch.from_numpy(rng.view_of(ids).astype(np.int64))


def num_slots(config: DataConfig) -> int:
    """Batches in memory at a time: those ahead, one with the consumer, one being filled."""
    return config.batches_ahead + 2


def _remade(remake: Callable[[], Loader], epoch: int, first_step: int, resolution: int, num_replaced: int) -> Loader:
    """A loader like one that was pickled or copied."""
    loader = remake()
    loader.set_epoch(epoch, first_step)
    loader.set_resolution(resolution)
    loader.num_replaced = num_replaced
    return loader
