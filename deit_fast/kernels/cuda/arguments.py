"""Packs arguments of kernels the way Numba's kernels take them: eight bytes for each number, sixteen and more for arrays.

A kernel's array is seven words or more: two that Numba keeps for itself, the number of elements, the bytes of one, the
address, then lengths and strides. A tuple is its members, one behind the other.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import from_dtype, typeof, types

if TYPE_CHECKING:
    import torch

# of NumPy's scalars, and of the numbers that tuples hold, what `struct` writes into eight bytes
_FORMATS: dict[type, str] = {
    np.int32: "i4x", np.uint32: "I4x", np.int64: "q", np.uint64: "Q", np.float32: "f4x", np.float64: "d",
    int: "q", float: "d", bool: "?7x",
}  # fmt: skip


class Packed:
    """An argument that is packed once for all launches: an array, or a tuple.

    kind: of its type; words: the packed bytes. The memory of arrays is kept alive.
    """

    __slots__ = ("kind", "memory", "words")

    def __init__(self, kind: Kind, words: bytes, memory: Any) -> None:
        self.kind, self.words, self.memory = kind, words, memory


class Kind:
    """A type of Numba's, one object for each: it is hashed at each launch, which takes Numba's types long."""

    def __init__(self, numba_type: types.Type) -> None:
        self.type = numba_type


_kind_of = functools.cache(Kind)


@functools.cache
def _array_kind(dtype: torch.dtype, num_dimensions: int) -> Kind:
    name = str(dtype).removeprefix("torch.")
    return _kind_of(types.Array(from_dtype(np.dtype("uint16" if name == "bfloat16" else name)), num_dimensions, "C"))


@functools.cache
def _words_of_array(num_dimensions: int) -> Callable[..., bytes]:
    return struct.Struct(f"={5 + 2 * num_dimensions}q").pack


def packed_array(memory: torch.Tensor) -> Packed:
    """A contiguous tensor, as an array on the same memory. bfloat16 comes as the uint16 of its bits."""
    assert memory.is_contiguous()
    shape, size = memory.shape, memory.itemsize
    strides = [size * stride for stride in memory.stride()]
    words = _words_of_array(len(shape))(0, 0, memory.numel(), size, memory.data_ptr(), *shape, *strides)
    return Packed(_array_kind(memory.dtype, len(shape)), words, memory)


def packed_tuple(value: tuple[Any, ...]) -> Packed:
    """A named tuple of numbers, of arrays from `packed_array`, and of such tuples."""
    parts = [packed_tuple(part) if isinstance(part, tuple) else part for part in value]
    member_types = [type_of(part) for part in parts]
    if len(set(member_types)) == 1:
        whole: types.Type = types.NamedUniTuple(member_types[0], len(parts), type(value))
    else:
        whole = types.NamedTuple(member_types, type(value))
    return Packed(_kind_of(whole), struct.pack(format_of(parts), *values_of(parts)), parts)


def type_of(argument: Any) -> types.Type:
    """Numba's type of an argument: a NumPy scalar, a number of Python, or one that is packed."""
    return argument.kind.type if isinstance(argument, Packed) else typeof(argument)


def format_of(arguments: Sequence[Any]) -> str:
    """What `struct` packs the `values_of` arguments by: eight bytes or several times as many for each."""
    return "=" + "".join(f"{len(a.words)}s" if isinstance(a, Packed) else _FORMATS[type(a)] for a in arguments)


def values_of(arguments: Sequence[Any]) -> list[Any]:
    """What `struct` packs for arguments."""
    return [a.words if type(a) is Packed else a for a in arguments]
