"""Functions become parts of their callers, and are compiled for themselves only where Python calls them."""

from typing import Any

import numba
import numpy as np
import pytest
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target
from numba.core.target_extension import CPU

from deit_fast.kernels.compiled import compiled


def _compiled_here(function: Any) -> Any:
    """The function for Python, compiled in this process: what comes from the cache has no LLVM code to look at."""
    function.cached._cache = NullCache()
    return function.cached


@compiled()
def _square(value):  # type: ignore[no-untyped-def]
    """The square of a number."""
    return value * value


@compiled()
def _sum_of_squares(values):  # type: ignore[no-untyped-def]
    total = values[0] - values[0]
    for value in values:
        total += _square(value)
    return total


@compiled()
def _norms(rows):  # type: ignore[no-untyped-def]
    lengths = np.empty(len(rows))
    for number in range(len(rows)):
        lengths[number] = np.sqrt(_sum_of_squares(rows[number]))
    return lengths


@compiled()
def _refuse(value):  # type: ignore[no-untyped-def]
    if value < 0:
        raise ValueError("want 0 or more")
    return value


@compiled()
def _root(value):  # type: ignore[no-untyped-def]
    return np.sqrt(_refuse(value))


def test_what_is_called_is_taken_in() -> None:
    rows, norms = np.arange(12.0).reshape(4, 3), _compiled_here(_norms)
    np.testing.assert_array_equal(norms(rows), np.sqrt((rows**2).sum(axis=1)))
    (code,) = norms.inspect_llvm().values()
    assert "_square" not in "".join(line for line in code.splitlines() if line.startswith("define"))
    assert _square.overloads  # typed and lowered
    assert "cached" not in vars(_square)  # and no more


def test_python_and_compiled_code_call_the_same_function() -> None:
    assert _square(3) == 9
    assert _sum_of_squares(np.array([1, 2, 3])) == 14
    assert _square.__name__ == "_square"
    assert _square.__doc__ == "The square of a number."


def test_errors_pass_through() -> None:
    assert _root(9.0) == 3.0
    try:
        _root(-1.0)
    except ValueError as error:
        assert str(error) == "want 0 or more"
    else:
        raise AssertionError("no error")


@compiled()
def _cubed(value):  # type: ignore[no-untyped-def]
    return value * 3.0 * value * 5.0 * value


@compiled()
def _sum_of_cubes(a, b):  # type: ignore[no-untyped-def]
    return _cubed(a) + _cubed(b)


def test_nothing_is_inherited_from_the_first_caller() -> None:
    @numba.njit(fastmath=True, error_model="numpy")
    def fast(a):  # type: ignore[no-untyped-def]
        return _cubed(a), _sum_of_cubes(a, a)

    fast(2.0)
    sum_of_cubes = _compiled_here(_sum_of_cubes)
    assert sum_of_cubes(1.0, 2.0) == 135.0
    (code,) = sum_of_cubes.inspect_llvm().values()
    products = [line for line in code.splitlines() if " fmul " in line]
    assert products
    assert not any(" fast " in line or "reassoc" in line for line in products)


@compiled()
def _with_numbas_own(values):  # type: ignore[no-untyped-def]
    kept = np.empty(len(values))
    for number in range(len(values)):
        kept[number] = max(values[number], 1.0)
    return kept


def test_numbas_own_functions_are_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    names, make = [], JITCodeLibrary._finalize_specific

    def note_and_make(library: JITCodeLibrary) -> None:
        names.append(library.name)
        make(library)

    monkeypatch.setattr(JITCodeLibrary, "_finalize_specific", note_and_make)
    keep = _compiled_here(_with_numbas_own)
    np.testing.assert_array_equal(keep(np.array([1.0, 0.5, 3.0, 2.0])), [1.0, 1.0, 3.0, 2.0])
    assert [name for name in names if "_with_numbas_own" not in name] == []  # machine code of itself alone


def test_what_others_compile_is_left_to_numba() -> None:
    @numba.njit
    def keep(values):  # type: ignore[no-untyped-def]
        return _with_numbas_own(values), np.empty(3, np.complex64).size

    kept, size = keep(np.array([2.0, 1.0]))
    np.testing.assert_array_equal(kept, [2.0, 1.0])
    assert size == 3
    assert cpu_target.target_context.target is CPU
