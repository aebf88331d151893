"""Memory for batches, whose pieces are reused only after nobody holds the batch in them."""

from __future__ import annotations

import math
import queue
import weakref

import numpy as np
import torch

from deit_fast.data.load.memory import empty_lines

# An ordinary loop lets go of its batch as soon as it has the next: that is worth a moment, since new memory costs page faults
_LETTING_GO_SECONDS = 0.01


class Slots:
    """Arrays of one shape and dtype, in `count` pieces of memory used in turn; in more if more are held. A piece begins with a
    line of the cache.

    A piece is free after the array made from it is gone, and everything that shares its memory: slices, tensors, views of
    tensors, arrays of these, what autograd has saved. pinned: for transfers to a GPU. Only one thread may call `take`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, count: int, *, pinned: bool) -> None:
        self._shape, self._dtype, self._count, self._pinned = shape, dtype, count, pinned
        # An array that goes puts its weak reference here. `put` is written in C: in a function of Python, which would run in
        # the thread that let go of the array, a KeyboardInterrupt would be printed and forgotten.
        self._gone: queue.SimpleQueue[weakref.ref[np.ndarray]] = queue.SimpleQueue()
        self._lent: dict[int, tuple[weakref.ref[np.ndarray], np.ndarray]] = {}  # the reference and the memory, by its id
        self._free = [self._new() for _ in range(count)]
        self._read_until: dict[int, torch.cuda.Event] = {}  # by address

    @property
    def num_pieces(self) -> int:
        """Number of pieces of memory, free or lent."""
        return len(self._free) + len(self._lent)

    def take(self) -> np.ndarray:
        """An array whose memory nobody else uses; its contents are undefined."""
        self._collect()
        if not self._free:
            self._collect(_LETTING_GO_SECONDS)
        # the last that became free is in the caches and has its pages; of what a GPU reads, the first is likeliest to be done
        memory = self._free.pop(0 if self._pinned else -1) if self._free else self._new()
        self._drop_surplus(1)  # and not before: the piece that is taken would be dropped, and another one made for it
        event = self._read_until.pop(memory.ctypes.data, None)
        if event is not None:
            event.synchronize()
        # over a memoryview, past which NumPy does not look for the owner: slices keep `whole` alive, not the memory alone
        whole = np.frombuffer(memory.data, self._dtype)
        reference = weakref.ref(whole, self._gone.put)
        self._lent[id(reference)] = reference, memory
        return whole.reshape(self._shape)

    def read_until(self, lent: np.ndarray, event: torch.cuda.Event) -> None:
        """A GPU copies from an array that was taken, or from its beginning, until the event, even after the array is gone."""
        self._read_until[lent.ctypes.data] = event

    def rest(self) -> None:
        """Nothing is taken for now: wait until no GPU copies from any piece, and keep no more than `count`.

        Pieces beyond these that are lent go when the batches do that lie in them.
        """
        for event in list(self._read_until.values()):
            event.synchronize()
        self._read_until.clear()
        self._collect()
        self._drop_surplus()
        while self.num_pieces > self._count:
            del self._lent[next(iter(self._lent))]

    def _collect(self, wait_seconds: float = 0.0) -> None:
        """Pieces whose arrays are gone are free; with none of these, the next that becomes free within so many seconds is."""
        try:
            while True:
                gone = self._gone.get(timeout=wait_seconds) if wait_seconds else self._gone.get_nowait()
                wait_seconds = 0.0
                lent = self._lent.pop(id(gone), None)
                if lent is not None:  # else it was left to its batch
                    self._free.append(lent[1])
        except queue.Empty:
            pass

    def _drop_surplus(self, num_taken: int = 0) -> None:
        while self._free and self.num_pieces + num_taken > self._count:
            event = self._read_until.pop(self._free[0].ctypes.data, None)
            if event is not None:
                event.synchronize()
            del self._free[0]

    def _new(self) -> np.ndarray:
        num_bytes = math.prod(self._shape) * self._dtype.itemsize
        if self._pinned:
            memory: np.ndarray = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True).numpy()
        else:
            memory = empty_lines((num_bytes,), np.uint8)
        return memory
