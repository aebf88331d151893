"""Stops all ranks at the same step after a signal to any of them or at the end of a budget."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

import torch
import torch.distributed

from deit_fast.train.dist import World

# SIGHUP: a terminal's end; SIGUSR1: what SLURM sends ahead of a time limit, if asked to
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

BUDGET = "budget"  # a reason to stop, beside the names of signals
_BUDGET_NUMBER = 1 << 16  # beyond any signal's


class Stop:
    """Catches SIGTERM, SIGHUP and SIGUSR1 inside its `with` block, and tells all ranks of a signal to any of them.

    If the process ignores SIGHUP, as under nohup, it stays ignored. torchrun catches SIGHUP even under nohup, passes it to its
    ranks, and kills those that have not ended after its --shutdown-timeout of 30 s.

    Each rank asks at the end of each step. The CPUs add up the answers during the next step and read the sum at its end, so no
    step waits for it; the ranks therefore stop one step after the one in which the signal came.
    """

    def __init__(self, world: World) -> None:
        self._group = world.control_group
        self._signal = 0
        self._asked: tuple[torch.distributed.Work, torch.Tensor] | None = None
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there alone
            is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            caught = [number for number in SIGNALS if number != signal.SIGHUP or not is_ignored]
            self._former = {number: signal.signal(number, self._note) for number in caught}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._asked is not None and error is None:
            self._asked[0].wait()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def ask(self) -> None:
        """Asks all ranks to stop because this rank's budget is spent."""
        self._signal = self._signal or _BUDGET_NUMBER

    def agreed(self) -> str | None:
        """The signal's name, or BUDGET, if all ranks must stop now; else None. Each rank must call it equally often."""
        if self._group is None:
            return _reason(self._signal) if self._signal else None
        answer = 0
        if self._asked is not None:
            work, largest = self._asked
            work.wait()
            answer = int(largest)
        if answer:
            self._asked = None
            return _reason(answer)
        largest = torch.tensor(self._signal)
        work = torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._asked = work, largest
        return None


def _reason(number: int) -> str:
    return BUDGET if number == _BUDGET_NUMBER else signal.Signals(number).name
