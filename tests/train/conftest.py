"""Fixtures of small runs."""

from collections.abc import Callable

import pytest

from deit_fast.train.trainer import Trainer
from tests.tiny_runs import digits, finished_run, tiny_run

__all__ = ["digits", "finished_run", "tiny_run"]


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """at_step(n, action): the action takes place in the n-th step from now on, once."""

    def plan(number: int, action: Callable[[], None]) -> None:
        train_on = Trainer.train_on
        calls = iter(range(1, 10**6))

        def counted(trainer: Trainer, *place: object) -> None:
            train_on(trainer, *place)  # type: ignore[arg-type]
            if next(calls) == number:
                action()

        monkeypatch.setattr(Trainer, "train_on", counted)

    return plan
