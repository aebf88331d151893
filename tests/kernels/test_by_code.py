"""Functions chosen by a number, as plain Python and compiled."""

from __future__ import annotations

import numba
import pytest

from deit_fast.kernels.by_code import choosing


def _sum(a: int, b: int) -> int:
    return a + b


def _twice(double: int) -> int:
    return double


def _seven() -> int:
    return 7


@pytest.mark.parametrize("decorated", [lambda function: function, numba.njit])
def test_each_number_calls_its_function_with_what_it_names(decorated: object) -> None:
    assert callable(decorated)
    functions = {code: decorated(function) for code, function in {2: _sum, 5: _twice, 9: _seven}.items()}
    functions[11] = functions[2]
    chosen = decorated(choosing("chosen(code, b, a)", functions, __name__, setup=("double = 2 * a",), otherwise="return -1"))
    assert [chosen(code, 100, 3) for code in (2, 5, 9, 11, 0)] == [103, 6, 7, 103, -1]


def test_a_parameter_that_is_not_given_is_found_when_it_is_called() -> None:
    with pytest.raises(NameError, match="'double'"):
        choosing("chosen(code, a)", {1: _twice}, __name__)(1, 2)
