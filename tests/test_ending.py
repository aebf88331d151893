"""A signal that arrives while Numba calls a function ends the process as at any other time."""

from __future__ import annotations

import pytest

from deit_fast.ending import ending_of, plain_endings


def test_what_is_an_ending() -> None:
    for error in (KeyboardInterrupt(), SystemExit(143)):
        because = SystemError("returned a result with an exception set")
        because.__cause__ = error
        assert ending_of(error) is ending_of(because) is error
        with pytest.raises(type(error)) as raised, plain_endings():
            raise because
        assert raised.value is error
    for other in (None, ValueError("a bug"), SystemError("a bug")):
        assert ending_of(other) is None
    with pytest.raises(SystemError, match="a bug") as bug, plain_endings():
        raise SystemError("a bug") from ValueError("in C")
    assert isinstance(bug.value.__cause__, ValueError)
