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
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.train.preload", "tests.train.sessions"])


class Session:
    """`deit-fast *words` on some ranks of this machine, which meet as torchrun lets them; stderr goes into a file."""

    def __init__(self, words: Sequence[str], stderr: Path, num_ranks: int = 1) -> None:
        self._stderr = stderr
        stderr.write_bytes(b"")
        self.ranks: list[BaseProcess] = []
        port = free_port()
        for rank in range(num_ranks):
            process = _forks.Process(target=_be_rank, args=(list(words), stderr, rank, num_ranks, port))
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


def _be_rank(words: list[str], stderr: Path, rank: int, num_ranks: int, port: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    with Path(os.devnull).open("w") as nothing, stderr.open("a") as errors:
        os.dup2(nothing.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    if num_ranks > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        os.environ.update({name: str(value) for name, value in {**place, **meeting}.items()})
    from deit_fast.__main__ import main

    sys.exit(main(words))
