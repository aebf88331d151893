"""Trains a point as a process on a share of this machine; the process never outlives the sweep."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deit_fast.config import UserError
from deit_fast.cores import VARIABLE, num_cores
from deit_fast.sweep.ledger import Ledger, is_finished
from deit_fast.sweep.points import Point

_TAIL_BYTES = 65536  # at the end of a process's output, in which its error is looked for
_PR_SET_PDEATHSIG = 1  # of prctl


@dataclass(frozen=True)
class Ended:
    """End of an attempt at a point: with a result, or with an error of one line."""

    has_result: bool
    error: str = ""


@dataclass(frozen=True)
class Share:
    """A process's share of this machine: a GPU, as named in CUDA_VISIBLE_DEVICES, cores by their numbers, and how many of them
    it may keep busy, which are fewer if a quota limits all processes together."""

    gpu: str | None
    cores: tuple[int, ...]
    num_cores: int


def shares(points: Sequence[Point], at_once: int | None) -> list[Share]:
    """Divides this machine among the processes that run at once; None: one for each GPU, else one.

    Raises UserError if there are GPUs, but fewer than processes."""
    gpus = _gpus(points)
    count = at_once or len(gpus) or 1
    if gpus and count > len(gpus):
        raise UserError(
            f"sweep.at_once={count}: each run has a GPU of its own, and there are {len(gpus)}: want at most that many"
        )
    cores = sorted(os.sched_getaffinity(0))
    divided = [tuple(cores[len(cores) * i // count : len(cores) * (i + 1) // count]) for i in range(count)]
    # fewer cores than processes: they share all of them
    busy = max(1, num_cores() // count)
    return [Share(gpus[i] if gpus else None, divided[i] or tuple(cores), busy) for i in range(count)]


def _gpus(points: Sequence[Point]) -> list[str]:
    """The GPUs for the points, as named in CUDA_VISIBLE_DEVICES."""
    if all(point.config.train.device == "cpu" for point in points):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return [name for name in names if name and name != "-1"]
    import torch  # only to count: no process but those of the points is to take memory of a GPU

    return [str(index) for index in range(torch.cuda.device_count())]


class Process:
    """A process that trains a point: `python -m deit_fast train`, in its own session.

    The sweep passes Ctrl-C on as SIGTERM, on which the run writes a checkpoint. If the sweep dies, also of SIGKILL, Linux kills
    the process with it. The process holds the lock of the sweep's folder too, so that even if it survived, no other sweep would
    start the point beside it.
    """

    def __init__(self, point: Point, ledger: Ledger, share: Share) -> None:
        self.point = point
        self.started = time.monotonic()
        words = [f"--config-file={ledger.write_config(point)}", "--train.resume", f"--run.dir={point.folder}"]
        stdout, self._stderr = (ledger.folder / f"{point.name}.{ending}" for ending in ("log", "err"))
        environment = {**os.environ, VARIABLE: str(share.num_cores)}
        if share.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = share.gpu
        with stdout.open("ab") as out, self._stderr.open("ab") as err:
            self._first_byte = err.tell()  # of this attempt
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deit_fast", "train", *words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True,
                pass_fds=(ledger.lock_file,), preexec_fn=_bound_to(os.getpid(), share.cores),
            )  # fmt: skip

    def ended(self) -> Ended | None:
        """How the attempt ended; None: it still runs."""
        status = self._process.poll()
        if status is None:
            return None
        if is_finished(self.point):
            return Ended(True)
        line = error_line(self._stderr, self._first_byte)
        if status < 0:
            name = signal.Signals(-status).name
            killed = f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
            return Ended(False, f"{killed}: {line}" if line else killed)
        if status == 0:
            return Ended(False, "was stopped before its end")
        return Ended(False, line or f"ended with status {status} and no error message")

    def stop(self) -> None:
        """Asks the process to write a checkpoint and end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the process and all its descendants."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _bound_to(sweep: int, cores: tuple[int, ...]) -> Callable[[], None]:
    """A function for a new process to call first: makes it die with the sweep, and binds it to its cores."""
    # looked up here: between fork and exec there may be locks of other threads that nobody releases any more
    libc = ctypes.CDLL(None)

    def bind() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != sweep:  # which died before that
            os._exit(1)
        os.sched_setaffinity(0, cores)

    return bind


def error_line(path: Path, first_byte: int = 0) -> str:
    """The error line in a process's output from a byte on: deit-fast's own, or the last line; empty: no output."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(first_byte, end - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    found = [" ".join(line.split()) for line in lines if line.strip()]
    own = [line for line in found if line.startswith("deit-fast train: ")]
    return (own or found or [""])[-1].removeprefix("deit-fast train: ")
