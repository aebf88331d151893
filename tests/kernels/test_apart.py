"""Functions that are called by their address give what they give by their name, and become no part of their callers."""

import numpy as np
import pytest
from numba import types

from deit_fast.kernels.apart import Apart
from deit_fast.kernels.compiled import compiled


@compiled()
def _scaled_sum(values, factors, place):  # type: ignore[no-untyped-def]
    if place < 0:
        raise ValueError("before the first")
    return values[place] * factors[0] + factors[1]


SUM = Apart(_scaled_sum, types.float64(types.float64[::1], types.UniTuple(types.float64, 2), types.int64))
_call = SUM.call


@compiled()
def _all_sums(sum_at, values, factors, first, out):  # type: ignore[no-untyped-def]
    for i in range(first, len(values)):
        out[i] = _call(sum_at, values, factors, i)


def test_a_call_by_address_is_a_call_by_name() -> None:
    values, out = np.arange(5.0), np.empty(5)
    _all_sums(SUM.address, values, (2.0, 3), np.int32(0), out)  # arguments of other types are converted
    assert out.tolist() == [_scaled_sum(values, (2.0, 3.0), i) for i in range(5)] == [3.0, 5.0, 7.0, 9.0, 11.0]
    assert SUM.address == SUM.address


def test_an_exception_comes_back_through_it() -> None:
    with pytest.raises(ValueError, match="before the first"):
        _all_sums(SUM.address, np.arange(5.0), (1.0, 0.0), -1, np.empty(5))


def test_callers_do_not_contain_it() -> None:
    _all_sums(SUM.address, np.arange(5.0), (1.0, 0.0), 0, np.empty(5))
    code = "".join(_all_sums.inspect_llvm().values())
    assert "_scaled_sum" not in code
