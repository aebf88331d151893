"""Takes FFCV operations, gives what they make of a batch, in memory that is allocated once.

FFCV's own loader compiles all operations of a stage into one function, anew in each process. Ours call functions that are
compiled and cached already, so here the code that they generate runs as plain Python. Between operations a batch lies in
memory that the next batch uses again; only what the last one gives lies in memory of its own, a slot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from ffcv.reader import Reader

from deit_fast.config import UserError
from deit_fast.data.format.beton import Beton
from deit_fast.data.load.ffcv_repairs import read_mapped
from deit_fast.data.load.slots import Slots
from deit_fast.kernels.addresses import HoldsAddresses


@contextmanager
def _generating_code() -> Iterator[None]:
    """FFCV generates code without compiling it, and leaves PyTorch's number of threads as it was."""
    torch_threads = torch.get_num_threads()
    Compiler.set_enabled(False)
    try:
        yield
    finally:
        Compiler.set_enabled(True)
        torch.set_num_threads(torch_threads)


class MappedBeton(HoldsAddresses):
    """A beton mapped into memory: `metadata` of each field by its name, and `state`, through which operations read.

    The reading side of FFCV's Reader and OSCacheManager without their dictionaries: 550 bytes a sample in each process.
    """

    def __init__(self, beton: Beton) -> None:
        reader = Reader(str(beton.path))
        self.metadata = {name: reader.metadata[f"f{number}"] for number, name in enumerate(beton.field_names)}
        order = np.argsort(beton.offsets)
        self.memory = np.memmap(beton.path, np.uint8, "r")
        self.state = (self.memory, beton.offsets[order], beton.sizes[order])


class Pipeline(HoldsAddresses):
    """A decoder and operations on what it gives, for one field of a beton. One batch at a time.

    `slots`, once prepared: memory for results, of which one is taken for each batch. `code`: what each operation generated.
    """

    slots: Slots

    def __init__(self, operations: Sequence[Operation], mapped: MappedBeton, field: str) -> None:
        self.operations = list(operations)
        self._mapped = mapped
        self.metadata = mapped.metadata[field]
        for operation in self.operations:
            operation.accept_globals(self.metadata, read_mapped)
        self._has_several = [isinstance(query, Sequence) for query in _queries(self.operations)]
        self.code: list[Any] = []
        self._memory: list[tuple[np.ndarray, ...]] = []
        self._output = 0

    def prepare(self, batch_size: int, num_slots: int, *, pinned: bool) -> None:
        """Allocates memory for batches of up to batch_size, pinned for transfers to a GPU if asked, and generates the code.

        Raises UserError where there is not so much memory.
        """
        queries = _queries(self.operations)
        with _generating_code():
            self.code = [operation.generate_code() for operation in self.operations]
        self._output = _output(queries)
        try:
            self._memory = [
                tuple(np.empty((batch_size, *part.shape), part.dtype) for part in _own_parts(query, number == self._output))
                for number, query in enumerate(queries)
            ]
            result = _parts(queries[self._output])[0]
            self.slots = Slots((batch_size, *result.shape), np.dtype(result.dtype), num_slots, pinned=pinned)
        except (MemoryError, ValueError) as error:  # of NumPy: no memory, or more than there are addresses
            num_bytes = batch_bytes(self.operations, batch_size, num_slots)
            raise UserError(
                f"{num_slots} batches of {batch_size} take {num_bytes:,} bytes, which are not to be had: want smaller batches "
                "(data.batch_size, data.eval_batch_size), fewer (data.batches_ahead), or a smaller data.resolution"
            ) from error

    def memory(self, number: int, slot: np.ndarray, positions: slice) -> Any:
        """What operation `number` writes to for some positions of the batch in a slot."""
        arrays = self._memory[number]
        if number == self._output:
            arrays = (slot, *arrays)
        found = tuple(array[positions] for array in arrays)
        return found if self._has_several[number] else found[0] if found else None

    def decode(self, ids: np.ndarray, slot: np.ndarray, positions: slice) -> Any:
        """Runs the decoder alone on the ids (n,) of n positions of a batch; its result."""
        return self.code[0](ids, self.memory(0, slot, positions), self.metadata, self._mapped.state)

    def plan(self, ids: np.ndarray, slot: np.ndarray, positions: slice) -> None:
        """As `decode`, but the decoder only locates the images and plans the views."""
        decoder: Any = self.operations[0]
        decoder.plan_views(ids, self.memory(0, slot, positions), self.metadata, self._mapped.state)

    def run_rest(self, decoded: np.ndarray, ids: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """The result of the operations behind the decoder on a batch (B, ...) that it gave."""
        result = decoded
        for number, code in enumerate(self.code[1:], 1):
            indices = (ids,) if getattr(code, "with_indices", False) else ()
            result = code(result, self.memory(number, slot, slice(0, len(ids))), *indices)
        return result

    def run(self, ids: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """The result of all operations on a batch of ids (B,), in a slot."""
        return self.run_rest(self.decode(ids, slot, slice(0, len(ids))), ids, slot)


_Query: TypeAlias = AllocationQuery | Sequence[AllocationQuery] | None


def _queries(operations: Sequence[Operation]) -> list[_Query]:
    """What each operation asks for, for one sample."""
    state = State(jit_mode=True, device=torch.device("cpu"), shape=(), dtype=np.dtype("<u1"))
    queries = []
    for operation in operations:
        state, query = operation.declare_state_and_memory(state)
        queries.append(query)
    return queries


def _output(queries: list[_Query]) -> int:
    """The operation in whose memory the result lies: the last that has any; those behind it work in place."""
    return max(number for number, query in enumerate(queries) if query is not None)


def _parts(query: _Query) -> Sequence[AllocationQuery]:
    """What an operation asks for; its result lies in the first."""
    return [query] if isinstance(query, AllocationQuery) else query or ()


def _own_parts(query: _Query, is_output: bool) -> Sequence[AllocationQuery]:
    """What lies in the memory that all batches use in turn."""
    return _parts(query)[1:] if is_output else _parts(query)


def batch_bytes(operations: Sequence[Operation], batch_size: int, num_slots: int) -> int:
    """Bytes that a Pipeline allocates for batches."""
    queries = _queries(operations)
    total = 0
    for number, query in enumerate(queries):
        for place, part in enumerate(_parts(query)):
            num_pieces = num_slots if number == _output(queries) and place == 0 else 1
            total += math.prod(part.shape) * np.dtype(part.dtype).itemsize * batch_size * num_pieces
    return total
