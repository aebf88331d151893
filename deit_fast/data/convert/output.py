"""What every command that writes a beton needs: a free path, room on the disk, and a clean end however it is ended."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL

import deit_fast
from deit_fast.config import UserError
from deit_fast.data.convert.workers import DISK_FULL, ENDING_SIGNALS
from deit_fast.data.format.beton import manifest_path
from deit_fast.ending import plain_endings


def versions() -> dict[str, str]:
    """Versions of the libraries that have a say in a beton's bytes, for its manifest."""
    return {
        "deit_fast": deit_fast.__version__,
        "ffcv": importlib.metadata.version("ffcv"),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def output_path(option: str, path: str) -> Path:
    """The path given as `section.name`, links resolved. Raises UserError if no beton and manifest can be written there."""
    if not path:
        raise UserError(f"{option} is not set: want the path of the beton to write")
    out = Path(path)
    out = out.resolve() if out.is_symlink() else out
    for one in (out, manifest_path(out)):
        if one.exists() and not one.is_file():
            raise UserError(f"{option}={path}: {one} is {'a folder' if one.is_dir() else 'not a file'}")
    if not out.parent.is_dir():
        raise UserError(f"{option}={path}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option}={path}: the folder {out.parent} cannot be written to")
    return out


def check_space(out: Path, wanted_bytes: int, kept_bytes: int, or_smaller: str = "", margin: float = 1.0) -> None:
    """Raises UserError if so many bytes will not fit on the disk of `out`, where kept_bytes of them lie already.

    or_smaller: what else the user may do, for the error. margin: the share of wanted_bytes that must fit, if they are a guess.
    """
    free_bytes = shutil.disk_usage(out.parent).free + kept_bytes
    if margin * wanted_bytes > free_bytes:
        raise UserError(
            f"{out}: will take about {wanted_bytes / 1e6:,.1f} MB, and {free_bytes / 1e6:,.1f} MB are free there; choose "
            f"another disk{or_smaller}"
        )


@contextmanager
def writing(out: Path, command: str) -> Iterator[None]:
    """While `deit-fast COMMAND` writes `out`: a full disk is a UserError, and a signal that ends the process is named.

    Such a signal raises KeyboardInterrupt or SystemExit, as _ending_signals_raise says.
    """
    try:
        with _ending_signals_raise(), plain_endings():
            yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise UserError(f"{out}: cannot be written: {os.strerror(error.errno)}") from error
        raise
    except SystemExit as error:
        if isinstance(error.code, int) and error.code > 128:
            print(f"deit-fast {command}: ended by {signal.Signals(error.code - 128).name}", file=sys.stderr)
        raise


@contextmanager
def _ending_signals_raise() -> Iterator[None]:
    """Turns the first signal that asks the process to end into an exception, and ignores further ones.

    The clean-up then runs, and a second Ctrl-C does not cut it short. A signal that was ignored before (nohup) stays
    ignored. Outside the main thread, where Python allows no handlers, nothing changes.
    """

    def end(number: int, _: Any) -> None:
        for each in previous:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    previous: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {each: signal.getsignal(each) for each in ENDING_SIGNALS}
        previous = {each: handler for each, handler in previous.items() if handler is not signal.SIG_IGN}
    for each in previous:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
