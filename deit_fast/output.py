"""Keeps work running when standard output or error cannot be written: drops the text and keeps the reason."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_UNWRITABLE = (OSError, ValueError)  # ValueError: of a stream that was closed, or of text that its encoding lacks
_NAMES = {"stdout": "standard output", "stderr": "standard error"}


class DroppingStream:
    """A text stream whose write() and flush() never fail.

    If a pipe's reader has gone, a disk is full or a terminal was closed, only the text written at that time is lost; later
    text is tried again. `error` is the first reason, None as long as all was written. All else comes from the stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Writes text, or drops it."""
        try:
            self._stream.write(text)
        except _UNWRITABLE as error:
            self.error = self.error or error
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, or drops it."""
        try:
            self._stream.flush()
        except _UNWRITABLE as error:
            self.error = self.error or error

    def isatty(self) -> bool:
        """Whether this is a terminal; a stream that was closed is none."""
        try:
            return self._stream.isatty()
        except ValueError:
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def droppable_output() -> Iterator[None]:
    """Printing cannot end the block or the decorated function. Nested in another one, it changes nothing.

    If the process lacks a stream (sys.stdout is None if it was started without one), its text is dropped silently.
    """
    former: dict[str, TextIO | None] = {}
    with contextlib.ExitStack() as nothing:
        for name in _NAMES:
            stream = getattr(sys, name)
            if not isinstance(stream, DroppingStream):
                former[name] = stream
                inner = nothing.enter_context(Path(os.devnull).open("w")) if stream is None else stream
                setattr(sys, name, DroppingStream(inner))
        try:
            yield
        finally:
            for name, stream in former.items():
                ours = getattr(sys, name)
                if isinstance(ours, DroppingStream):  # and not what someone has put there since
                    ours.flush()
                    setattr(sys, name, stream)


def dropped_output() -> dict[str, OSError | ValueError]:
    """Why something could not be written within droppable_output, by "standard output" and "standard error"."""
    streams = {words: getattr(sys, name) for name, words in _NAMES.items()}
    return {words: stream.error for words, stream in streams.items() if isinstance(stream, DroppingStream) and stream.error}


def reason_of(error: OSError | ValueError) -> str:
    """Why a stream could not be written, in words."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """What the block prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
