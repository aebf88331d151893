"""Memory for batches, each piece of which is written to again only when nobody holds the batch that lies in it."""

from __future__ import annotations

import math
import queue
import weakref

import numpy as np
import torch

# An ordinary loop lets go of its batch as soon as it has the next: that is worth a moment, since new memory costs page faults
_LETTING_GO_SECONDS = 0.01


class Slots:
    """Arrays of one shape and dtype, in `count` pieces of memory that are used in turn; in more while so many are held.

    A piece is free when the array that it was lent as is gone, and with it all that shares its memory: slices, tensors, views
    of tensors, arrays of these, what autograd has saved. pinned: for transfers to a GPU. One thread takes.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, count: int, *, pinned: bool) -> None:
        self._shape, self._dtype, self._count, self._pinned = shape, dtype, count, pinned
        self._free: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()  # whose put() may be called by a finalizer
        self._read_until: dict[int, torch.cuda.Event] = {}  # by address
        self._pieces: set[int] = set()  # by address, those that are lent too
        self._rests = True
        for _ in range(count):
            self._free.put(self._new())

    @property
    def num_pieces(self) -> int:
        """Pieces of memory that there are, free or lent."""
        return len(self._pieces)

    def take(self) -> np.ndarray:
        """An array whose memory nobody else uses, contents undefined."""
        self._rests = False
        try:
            memory = self._free.get(timeout=_LETTING_GO_SECONDS)
        except queue.Empty:
            memory = self._new()
        self._drop_surplus()
        event = self._read_until.pop(memory.ctypes.data, None)
        if event is not None:
            event.synchronize()
        # over a memoryview, past which NumPy does not look for the owner: slices keep `whole` alive, not the memory alone
        whole = np.frombuffer(memory.data, self._dtype)
        weakref.finalize(whole, _give_back, weakref.ref(self), memory).atexit = False
        return whole.reshape(self._shape)

    def read_until(self, lent: np.ndarray, event: torch.cuda.Event) -> None:
        """A GPU copies from an array that was taken, or from its beginning, until the event, even after the array is gone."""
        self._read_until[lent.ctypes.data] = event

    def rest(self) -> None:
        """Nothing is taken for now: wait until no GPU copies from any piece, and keep no more than `count` that are free."""
        for event in list(self._read_until.values()):
            event.synchronize()
        self._read_until.clear()
        self._rests = True
        self._drop_surplus()

    def put_back(self, memory: np.ndarray) -> None:
        """A piece is free again. May be called in any thread, at any time."""
        if self._rests and self.num_pieces > self._count:
            self._pieces.discard(memory.ctypes.data)
        else:
            self._free.put(memory)

    def _drop_surplus(self) -> None:
        while self.num_pieces > self._count and not self._free.empty():
            memory = self._free.get()
            event = self._read_until.pop(memory.ctypes.data, None)
            if event is not None:
                event.synchronize()
            self._pieces.discard(memory.ctypes.data)

    def _new(self) -> np.ndarray:
        num_bytes = math.prod(self._shape) * self._dtype.itemsize
        if self._pinned:
            memory: np.ndarray = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True).numpy()
        else:
            memory = np.empty(num_bytes, np.uint8)
        self._pieces.add(memory.ctypes.data)
        return memory


def _give_back(slots: weakref.ref[Slots], memory: np.ndarray) -> None:
    owner = slots()
    if owner is not None:  # else the memory goes with the batch
        owner.put_back(memory)
