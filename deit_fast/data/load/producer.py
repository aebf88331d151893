"""A thread that prepares batches of an epoch ahead."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numba
import numpy as np
import torch

from deit_fast.data.load.batch import Batch, Place, shown
from deit_fast.data.load.read_ahead import ReadAhead
from deit_fast.data.load.views import Made, Slot

if TYPE_CHECKING:
    from deit_fast.data.load.batches import Loader

_POLL_SECONDS = 0.1  # how often a blocked thread looks whether it is to stop


class Producer:
    """A thread that makes batches, and the queue through which they come.

    FFCV's `EpochIterator` has a thread that ends silently on any exception, so that the consumer waits for ever, and that
    outlives a loop left early. Here an exception is raised in the consumer, and `close` ends the thread.
    """

    def __init__(self, loader: Loader, batches: Sequence[np.ndarray], read_ahead: ReadAhead | None, place: Place) -> None:
        self._loader, self._place = loader, place
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
        waiting: deque[Made] = deque()  # held by no other name here: their slots are to become free
        try:
            numba.set_num_threads(self._loader.num_workers)
            self._loader.meter.begin()
            try:
                for number, ids in enumerate(self._batches):
                    if self._read_ahead is not None:
                        self._read_ahead.advance(self._loader.first_step + number)
                    self._loader.wait(ids, self._stop.is_set)
                    self._loader.meter.charge("files")
                    if self._stop.is_set():
                        return
                    waiting.append(self._loader.make_batch(ids))
                    # the device tells of the last one's damage while the next is made
                    self._pass_on(waiting, 1 if waiting[-1].damaged is not None else 0)
                    if self._stop.is_set():
                        return
            finally:
                self._pass_on(waiting, 0)  # also before an error of the next batch
        except BaseException as error:
            self._put(error)

    def _pass_on(self, waiting: deque[Made], num_kept: int) -> None:
        """Gives the consumer all batches but the last num_kept, once they are judged."""
        while len(waiting) > num_kept and not self._stop.is_set():
            self._put(self._loader.judged(waiting.popleft()))
            self._loader.meter.charge("queue")

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
            self._loader.meter.count(self._queue.qsize(), self._queue.maxsize)
            yield self._to_batch(self._get())

    def _to_batch(self, made: Made) -> Batch:
        images_BHWC, targets = self._taken(made) if isinstance(made.images, torch.Tensor) else self._transferred(made)
        return Batch(images_BHWC.permute(0, 3, 1, 2), targets, *shown(made.ids))

    def _transferred(self, made: Made) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, H, W, 3) and targets on the device, copied there on the current stream."""
        assert isinstance(made.images, np.ndarray) and isinstance(made.targets, np.ndarray)
        images = torch.from_numpy(made.images)
        if self._loader.is_bfloat16:
            images = images.view(torch.bfloat16)
        images, targets = self._place(images, torch.from_numpy(made.targets))
        if self._loader.device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
            self._loader.read_until(Slot(made.images, made.targets), event)
        return images, targets

    def _taken(self, made: Made) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and targets that were made on the device; the current stream waits for them."""
        assert isinstance(made.images, torch.Tensor) and isinstance(made.targets, torch.Tensor)
        if made.ready is not None:
            stream = torch.cuda.current_stream(self._loader.device)
            stream.wait_event(made.ready)
            for tensor in (made.images, made.targets):
                tensor.record_stream(stream)  # memory of the loader's stream, which is to leave it alone until this one is done
        return self._place(made.images, made.targets)

    def close(self) -> None:
        """End the thread, which may finish its current batch, and wait for it and for copies from its memory.

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
