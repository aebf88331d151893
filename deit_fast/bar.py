"""The progress bar that commands show on a terminal."""

from __future__ import annotations

import os
import threading
from typing import Any

from tqdm import tqdm


class Bar(tqdm):
    """tqdm's bar without locks and threads that outlive their process.

    tqdm shares a lock between a process and those forked from it. Were one of these killed while it holds the lock, all others
    would wait for ever; so here each process has its own. No thread watches the bars: `update` looks at the clock each time.
    """

    monitor_interval = 0

    def __init__(self, *arguments: Any, miniters: int = 1, **options: Any) -> None:
        super().__init__(*arguments, miniters=miniters, **options)


def _renew_lock() -> None:
    Bar.set_lock(threading.RLock())


_renew_lock()
os.register_at_fork(after_in_child=_renew_lock)  # another thread may have held it
