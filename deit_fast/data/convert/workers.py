"""Runs a function in worker processes and watches them until they end."""

from __future__ import annotations

import ctypes
import errno
import gc
import itertools
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import cv2

from deit_fast.config import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HINTS = {signal.SIGKILL: " (was memory short?)"}
_PR_SET_PDEATHSIG = 1

_fork = multiprocessing.get_context("fork")  # workers inherit the source, open files and scratch memory

# answers a request; calls its second argument with each sample that it begins, for error messages
Handler = Callable[[Any, Callable[[int], None]], Any]


class WorkerError(RuntimeError):
    """A worker raised an unexpected error; names the image that it was processing, with the traceback."""


class WorkerDied(UserError):
    """A worker process ended by itself or was killed; names the image that it was processing."""


class Workers:
    """Processes that each answer requests one at a time, in the order they are sent.

    handle(request, in_hand) runs in the process; describe(sample) names a sample in error messages. Answers come through a
    pipe that closes however the process dies, so nothing waits for a dead one. Used in a `with` block, which no process
    outlives.
    """

    def __init__(self, num_workers: int, handle: Handler, describe: Callable[[int], str]) -> None:
        self.num_workers = num_workers
        self._handle = handle
        self._describe = describe
        self._sample_in_hand = _fork.RawArray("q", [-1] * num_workers)
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []

    def __enter__(self) -> Workers:
        try:
            for worker in range(self.num_workers):
                with _signals_held():  # a signal between the fork and the lists would leave a process behind
                    ours, theirs = _fork.Pipe()
                    process: BaseProcess = _fork.Process(target=self._serve, args=(worker, theirs), daemon=True)
                    process.start()
                    self._processes.append(process)
                    self._pipes.append(ours)
                    theirs.close()  # the worker holds the only other end, so its death ends the pipe
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.join()
            pipe.close()

    def send(self, worker: int, request: Any) -> None:
        """Puts a request in a worker's queue."""
        try:
            self._pipes[worker].send(request)
        except OSError as error:
            raise self._death(worker) from error

    def receive(self) -> tuple[int, Any]:
        """Waits for the next answer from any worker: (worker, answer).

        Raises the worker's error: UserError unchanged, OSError for a full disk, WorkerDied, WorkerError for the rest.
        """
        pipe = wait(self._pipes)[0]
        assert isinstance(pipe, Connection)
        worker = self._pipes.index(pipe)
        try:
            kind, content = pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death(worker) from error
        if kind == "refused":
            raise UserError(content)
        if kind == "disk full":
            raise OSError(content, os.strerror(content))
        if kind == "failed":
            raise WorkerError(f"worker {worker} failed {self._in_hand(worker)}\n{content}")
        assert kind == "answer"
        return worker, content

    def _in_hand(self, worker: int) -> str:
        sample = self._sample_in_hand[worker]
        return f"with {self._describe(sample)} in hand" if sample >= 0 else "before its first image"

    def _death(self, worker: int) -> WorkerDied:
        process = self._processes[worker]
        process.join(timeout=10)
        code = process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}{_HINTS.get(signal.Signals(-code), '')}"
        return WorkerDied(f"worker {worker} {how} {self._in_hand(worker)}")

    def _serve(self, worker: int, pipe: Connection) -> None:
        _become_worker()

        def in_hand(sample: int) -> None:
            self._sample_in_hand[worker] = sample

        try:
            while True:
                pipe.send(("answer", self._handle(pipe.recv(), in_hand)))
        except EOFError:
            return
        except UserError as error:
            pipe.send(("refused", str(error)))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                pipe.send(("disk full", error.errno))
            else:
                pipe.send(("failed", traceback.format_exc()))


def map_unordered(requests: Iterable[Any], num_workers: int, handle: Handler, describe: Callable[[int], str]) -> Generator[Any]:
    """Yields the answers to all requests as they come, computed in num_workers processes; raises as Workers do."""
    remaining = iter(requests)
    with Workers(num_workers, handle, describe) as workers:
        first = list(itertools.islice(remaining, 2 * num_workers))  # per worker: one to work on, and one that waits
        for number, request in enumerate(first):
            workers.send(number % num_workers, request)
        pending = len(first)
        while pending:
            worker, answer = workers.receive()
            pending -= 1
            for request in itertools.islice(remaining, 1):
                workers.send(worker, request)
                pending += 1
            yield answer


def _become_worker() -> None:
    """Leaves Ctrl-C to the parent, ends with the parent, and turns off OpenCV's threads and the garbage collector.

    OpenCV's thread pool does not survive a fork, and would wait for ever for threads that only the parent has. A garbage
    collection in a worker would visit all objects of the parent, and copy their memory: 0.16 s in each.
    """
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    cv2.setNumThreads(0)
    gc.freeze()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Delays signals that ask the process to end until the block is left."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
