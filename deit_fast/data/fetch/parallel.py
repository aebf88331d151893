"""Does work for several items at the same time, in threads that do not keep a process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def for_each(work: Callable[[_T], None], items: Sequence[_T], num_threads: int) -> None:
    """Calls work with each item, in order, num_threads at a time. Raises the first error, and leaves items not begun then."""
    if num_threads == 1 or len(items) < 2:
        for item in items:
            work(item)
        return
    waiting, errors, lock = iter(items), list[BaseException](), threading.Lock()

    def run() -> None:
        while not errors:
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            try:
                work(item)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(num_threads, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
