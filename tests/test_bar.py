"""Progress bars: those of a process do not depend on another process, nor on how fast updates come."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading

import pytest

from deit_fast.bar import Bar


def _die_with_the_lock() -> None:
    Bar.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.timeout(60)
def test_a_forked_process_killed_while_it_draws_blocks_no_other() -> None:
    with Bar(total=1, disable=True):
        process = multiprocessing.get_context("fork").Process(target=_die_with_the_lock)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    with Bar(total=2, file=io.StringIO()) as bar:
        bar.update(2)
        assert bar.n == 2


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    with Bar(total=1, file=io.StringIO()) as bar:
        bar.update()
        assert threading.active_count() == before


def test_each_update_is_drawn_after_a_pause() -> None:
    """An update after a pause is drawn, however fast those before it came."""
    file = io.StringIO()
    with Bar(total=10_000, file=file, mininterval=0, maxinterval=1e9, ascii=True) as bar:
        for _ in range(5_000):
            bar.update()
        assert "5000/10000" in file.getvalue()
        bar.update()
        assert "5001/10000" in file.getvalue()
