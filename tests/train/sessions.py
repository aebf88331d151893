"""Takes the words of `deit-fast`, gives its ranks as processes forked from one that has imported all that a run needs.

A process that starts by an interpreter of its own imports for seconds what it then uses for one. The server of forks has
loaded the modules and done nothing else: no thread pool of PyTorch, OpenMP or Numba has been started in it that a fork
would leave without its threads. A rank is a process like any other to signals, to the files that it writes and to gloo.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.train.preload", "tests.train.sessions"])


class Session:
    """`deit-fast *words` on some ranks of this machine, which meet as torchrun lets them; stderr goes into a file.

    output: where stdout goes. full: once this file is there, stdout and stderr go to a disk that is full. program: a function
    of a module that takes the words, in the place of deit-fast.
    """

    def __init__(
        self,
        words: Sequence[str],
        stderr: Path,
        num_ranks: int = 1,
        output: str = os.devnull,
        full: Path | None = None,
        program: Callable[[list[str]], int | None] | None = None,
    ) -> None:
        self._stderr = stderr
        if stderr.is_file() or not stderr.exists():  # else a pipe or a terminal
            stderr.write_bytes(b"")
        self.ranks: list[BaseProcess] = []
        port = free_port()
        for rank in range(num_ranks):
            arguments = program, list(words), output, stderr, full, rank, num_ranks, port
            process = _forks.Process(target=_be_rank, args=arguments)
            process.start()
            self.ranks.append(process)

    @property
    def is_running(self) -> bool:
        """Whether no rank has ended."""
        return all(rank.exitcode is None for rank in self.ranks)

    @property
    def stderr(self) -> str:
        """What all ranks have written there so far."""
        return self._stderr.read_text()

    def wait(self, seconds: float = 120) -> int:
        """The largest exit status; ranks that take longer are killed."""
        for rank in self.ranks:
            rank.join(seconds)
        if self.is_running:
            self.kill()
        return max((abs(rank.exitcode or 0) for rank in self.ranks), default=0)

    def kill(self) -> None:
        """SIGKILL to all ranks, as when a machine goes down."""
        for rank in self.ranks:
            with contextlib.suppress(ProcessLookupError):
                rank.kill()
        for rank in self.ranks:
            rank.join(60)


def free_port() -> int:
    """A port of this machine that nothing listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _be_rank(
    program: Callable[[list[str]], int | None] | None,
    words: list[str],
    output: str,
    stderr: Path,
    full: Path | None,
    rank: int,
    num_ranks: int,
    port: int,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    _lead_output_to(output, str(stderr))
    # those that the server made think that they are at the places of its files
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    if full is not None:
        threading.Thread(target=_fill_up_once, args=(full,), daemon=True).start()
    if num_ranks > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        os.environ.update({name: str(value) for name, value in {**place, **meeting}.items()})
    from deit_fast.__main__ import main

    sys.exit((program or main)(words))


def _lead_output_to(stdout: str, stderr: str) -> None:
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
        os.dup2(file, number)
        os.close(file)


def _fill_up_once(there: Path) -> None:
    while not there.exists():
        time.sleep(0.001)
    _lead_output_to("/dev/full", "/dev/full")
