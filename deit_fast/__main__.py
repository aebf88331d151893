"""Runs the command that a command line names, and returns its exit status.

0: done. 1: a bug, with its traceback. 2: what the user can mend, in one line on stderr. 130: interrupted.

A command continues when its output cannot be written. If the output is its result, its status is then 2, unless only the reader
of a pipe has gone: `deit-fast inspect FILE | head -1` ends silently with 0.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deit_fast import __version__
from deit_fast.cli import help_text, overview, read_call
from deit_fast.commands import Command
from deit_fast.config import RankError, UserError
from deit_fast.ending import plain_endings
from deit_fast.output import DroppingStream, droppable_output, dropped_output, reason_of
from deit_fast.record.log import as_json
from deit_fast.record.run import write_bytes

_LAST_STANDARD_FILE = 2  # stderr's number
_ALL = "--help=all"
_HELP = frozenset(("--help", "-h", _ALL))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `deit-fast *argv` (without argv: the words of this process) and gives the exit status."""
    _let_waiting_threads_sleep()
    _make_streams_take_anything()
    words = list(sys.argv[1:] if argv is None else argv)
    with droppable_output():
        try:
            return _after_output(words, *_status_of(words))
        finally:
            _give_up_what_failed()


def _status_of(words: list[str]) -> tuple[int, bool]:
    """Does what the words ask for. Gives the exit status, problems with the output apart, and whether that is the result."""
    if not words:
        print(overview(), file=sys.stderr)
        return 2, True
    command = words[0]
    try:
        with plain_endings():
            return 0, _answer(words)
    except RankError as error:
        return _complain(command, str(error), 2, of_any_rank=True), True
    except UserError as error:
        return _complain(command, str(error), 2), True
    except OSError as error:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return _complain(command, f"{error.strerror}: {' -> '.join(names)}" if names else str(error), 2), True
    except KeyboardInterrupt:
        return _complain(command, "interrupted", 130), True


def _answer(words: list[str]) -> bool:
    """Prints help or the version, or runs a command. Gives whether the output is the result."""
    command, *options = words
    if command in _HELP:
        print(overview())
    elif command == "--version":
        print(f"deit-fast {__version__}")
    elif not _HELP.isdisjoint(options):
        print(help_text(command, options, everything=_ALL in options))
    else:
        return _run(words).prints_result
    return True


def _after_output(words: list[str], status: int, prints_result: bool) -> int:
    """Exit status of a command that ended with `status`, after a check whether its output was written; says if it was not."""
    sys.stdout.flush()
    error = dropped_output().get("standard output")
    if error is not None and not _has_reader_gone(error):
        _complain(" ".join(words[:1]), f"standard output could not be written in full: {reason_of(error)}", status)
        if prints_result:
            status = status or 2
    return status


def _has_reader_gone(error: OSError | ValueError) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _give_up_what_failed() -> None:
    """Redirects streams that failed to the null device: the interpreter flushes them at its end, and would fail."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        if isinstance(stream, DroppingStream) and stream.error is not None:
            with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())


def _make_streams_take_anything() -> None:
    """Makes streams escape characters that the terminal's encoding lacks, as in file names; a closed stream drops all text.

    If the process was started without standard input, output or error, their descriptors are occupied first. Otherwise the next
    opened file, a log or a checkpoint, would get one, and output of C libraries would go there.
    """
    while (file := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD_FILE:
        os.set_inheritable(file, True)
    os.close(file)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123  (open to the end of the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _let_waiting_threads_sleep() -> None:
    """Makes idle OpenMP threads give up their core after a moment, unless the user has set how long they spin.

    Loader, trainer and other processes share the cores, and a team of threads waits at each barrier for its last one.
    Measured on 2 cores (records/2026-11-21-first-light): with this, the demonstration trains 1.5 times as fast beside a busy
    process, and at 0.95 times the rate on an idle machine. Must come before OpenMP is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _run(words: list[str]) -> Command:
    """Runs the command that the words ask for, writes its result to --out, and gives the command."""
    call = read_call(words)
    out = _free_path(call.config.out) if call.config.out else None
    result = call.command.run(call)
    if out and _is_first_rank():
        content = (json.dumps(as_json(result), indent=2) + "\n").encode()
        try:
            write_bytes(out, content)
        except OSError as error:
            raise UserError(f"--out={call.config.out}: could not be written: {error.strerror}") from error
    return call.command


def _free_path(out: str) -> Path:
    """Resolved path of `--out`. Raises UserError before any work is done if no file can be written there."""
    path = Path(out).resolve()
    if path.exists() and not path.is_file():
        raise UserError(f"--out={out}: is not a file: want a file name")
    if not path.parent.is_dir():
        raise UserError(f"--out={out}: {path.parent} is not a folder: make it first, or choose another")
    trial = path.with_name(f".{path.name}.{os.getpid()}.trial")
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written: {error.strerror}") from error
    return path


def _is_first_rank() -> bool:
    """Whether this process is the one that prints for all ranks."""
    return os.environ.get("RANK", "0") == "0"


def _complain(command: str, message: str, status: int, of_any_rank: bool = False) -> int:
    # a node may lack what the others have: a beton, a teacher's weights, the folder of the run
    if of_any_rank or _is_first_rank() or os.environ.get("LOCAL_RANK") == "0":
        print(f"deit-fast {command}: {' '.join(message.splitlines())}", file=sys.stderr)
    return status


def run() -> NoReturn:
    """Runs `deit-fast` with the command line of this process, and ends the process.

    It ends like processes of Python's multiprocessing: after all threads have ended, functions registered by atexit are called,
    and nothing else. The interpreter would otherwise spend one or two seconds on freeing all that PyTorch made.
    """
    status = main()
    if _is_observed():
        sys.exit(status)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _is_observed() -> bool:
    """Whether a debugger, profiler or coverage tool may still have something to write."""
    monitoring = getattr(sys, "monitoring", None)  # of Python 3.12
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring is not None else []
    return sys.gettrace() is not None or sys.getprofile() is not None or any(tools)


if __name__ == "__main__":
    run()
