"""Shows the progress of a run: a bar on a terminal, and a line at the end of each epoch."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from deit_fast.bar import Bar

# {bar} takes the columns that are left
_FORMAT = "epoch {epoch}/{epochs} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {so_far}<{time_left}{figures}"

_REDRAW_SECONDS = 0.5


class Progress:
    """How far a run has come: steps of the whole run, images per second, time and money still needed.

    A bar on stderr where that is a terminal, and a line on stdout at the end of each epoch. One step costs a few microseconds,
    since the texts are made only when they are drawn.

    Args:
        total_steps: Steps of the whole run, all its epochs.
        first_step: Steps that earlier sessions have done: where this one goes on.
        epochs: Epochs of the whole run.
        global_batch_size: Views in a step, of all ranks together.
        dollars_per_hour: Price of all machines; None: not shown.
        earlier_seconds: What the run took before now, earlier sessions and this one's set-up; for the price.
        is_shown: Whether this process shows anything: on rank 0 alone.
        file: Where the bar is; None: stderr.
        now: Gives the current moment in seconds, never going back.
    """

    def __init__(
        self,
        *,
        total_steps: int,
        first_step: int,
        epochs: int,
        global_batch_size: int,
        dollars_per_hour: float | None = None,
        earlier_seconds: float = 0.0,
        is_shown: bool = True,
        file: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_steps, self._first_step, self._epochs = total_steps, first_step, epochs
        self._global_batch_size = global_batch_size
        self._dollars_per_hour, self._earlier_seconds = dollars_per_hour, earlier_seconds
        self._is_shown = is_shown
        self._now = now
        self._started = now()
        self._first_done: float | None = None  # when this session's first step was: it includes compilation
        self._num_steps = 0
        self._epoch = 0
        self._loss = self._lr = math.nan
        self._images_per_second: float | None = None
        self._measured = (self._started, 0)  # moment and number of steps when that was last measured
        self._bar = _Bar(
            self._fields, total=total_steps, initial=first_step, bar_format=_FORMAT, mininterval=_REDRAW_SECONDS,
            dynamic_ncols=True, file=sys.stderr if file is None else file, disable=None if is_shown else True,
        )  # fmt: skip

    def step(self, epoch: int) -> None:
        """Counts a step of an epoch (from 0)."""
        self._epoch = epoch
        self._num_steps += 1
        if self._first_done is None:
            self._first_done = self._now()
        self._bar.update()

    def loss(self, value: float, lr: float) -> None:
        """Sets the last read training loss and learning rate."""
        self._loss, self._lr = value, lr

    def epoch_done(
        self, epoch: int, *, loss: float, images_per_second: float, top1: Mapping[str, float], remarks: Sequence[str] = ()
    ) -> None:
        """Prints a finished epoch (from 0): its mean loss, top-1 in percent by weights if it was evaluated, then remarks."""
        if not self._is_shown:
            return
        parts = [f"epoch {epoch + 1}/{self._epochs}: loss {loss:.4g}"]
        parts += [f"top-1 {weights} {value:.2f} %" for weights, value in top1.items()]
        parts += [f"{images_per_second:,.0f} images/s", f"{_clock_time(self._seconds())} so far"]
        left = self._seconds_left()
        if left is not None:
            parts += [f"about {_clock_time(left)} left"]
        parts += self._dollars()
        parts += remarks
        self.say(", ".join(parts))

    def say(self, text: str) -> None:
        """Prints a line on stdout, above the bar where that is shown."""
        if self._is_shown:
            with _Bar.external_write_mode(file=sys.stdout):
                print(text, flush=True)

    def close(self) -> None:
        """Draws the bar a last time and leaves it; a second time does nothing."""
        self._bar.close()

    def _seconds(self) -> float:
        """Seconds of the run so far, all sessions."""
        return self._earlier_seconds + self._now() - self._started

    def _seconds_left(self) -> float | None:
        if self._first_done is None:
            return None
        steps_left = self._total_steps - self._first_step - self._num_steps
        return seconds_left(self._num_steps - 1, steps_left, self._now() - self._first_done)

    def _dollars(self) -> list[str]:
        """The cost so far and, if it can be told, at the end; nothing without a price."""
        if self._dollars_per_hour is None:
            return []
        seconds, left = self._seconds(), self._seconds_left()
        expected = "" if left is None else f" of about ${dollars(seconds + left, self._dollars_per_hour):,.2f}"
        return [f"${dollars(seconds, self._dollars_per_hour):,.2f}{expected}"]

    def _fields(self) -> dict[str, Any]:
        """What the bar shows beside tqdm's own fields."""
        now = self._now()
        seconds, steps = now - self._measured[0], self._num_steps - self._measured[1]
        if seconds >= _REDRAW_SECONDS and steps > 0:
            self._images_per_second = steps * self._global_batch_size / seconds
            self._measured = now, self._num_steps
        left = self._seconds_left()
        figures = [] if self._images_per_second is None else [f"{self._images_per_second:,.0f} images/s"]
        figures += self._dollars()
        if not math.isnan(self._lr):
            figures += [f"loss {self._loss:.4g}", f"lr {self._lr:.2g}"]  # a narrow terminal cuts from the right
        return {
            "epoch": self._epoch + 1,
            "epochs": self._epochs,
            "so_far": _clock_time(self._seconds()),
            "time_left": "?" if left is None else _clock_time(left),
            "figures": "".join(f", {figure}" for figure in figures),
        }


class _Bar(Bar):
    """A bar with further fields, which are made when it is drawn."""

    def __init__(self, fields: Callable[[], dict[str, Any]], **options: Any) -> None:
        self._fields = fields
        super().__init__(**options)

    @property
    def format_dict(self) -> dict[str, Any]:
        known: dict[str, Any] = super().format_dict
        return known | self._fields()


def seconds_left(steps_done: int, steps_left: int, seconds: float) -> float | None:
    """Seconds for the remaining steps, at the mean rate of the steps done, including everything between them.

    None before the first step.
    """
    if steps_left == 0:
        return 0.0
    return seconds / steps_done * steps_left if steps_done > 0 else None


def dollars(seconds: float, dollars_per_hour: float) -> float:
    """Price of a number of seconds."""
    return seconds / 3600.0 * dollars_per_hour


def _clock_time(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
