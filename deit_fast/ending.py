"""Recognises the exception with which a signal ends the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def ending_of(error: BaseException | None) -> KeyboardInterrupt | SystemExit | None:
    """What a signal's handler has raised to end the process, if this error is that; None if it is another.

    Where a handler runs while Numba looks at the arguments of a compiled function, the call goes on in spite of the exception,
    and Python raises a SystemError because of it ("returned a result with an exception set").
    """
    if isinstance(error, SystemError):
        error = error.__cause__
    return error if isinstance(error, KeyboardInterrupt | SystemExit) else None


@contextmanager
def plain_endings() -> Iterator[None]:
    """In the block, a SystemError that stands for a signal's exception becomes that exception."""
    try:
        yield
    except SystemError as error:
        ending = ending_of(error)
        if ending is None:
            raise
        raise ending from None
