"""What a loader says of its thread and its queue."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.activity import NOTHING, STAGES, Activity, ActivityMeter
from deit_fast.data.load.batches import Loader
from deit_fast.data.load.loader import train_loader
from deit_fast.data.load.views import Made


def test_seconds_and_shares_of_a_worked_example() -> None:
    moments = iter([0.0, 10.0, 13.0, 14.0, 14.5, 20.0])
    meter = ActivityMeter(lambda: next(moments))
    meter.begin()
    meter.charge("decode")
    meter.charge("augment")
    meter.charge("decode")
    meter.charge("queue")
    for num_waiting in (0, 4, 2, 2):
        meter.count(num_waiting, capacity=4)
    total = meter.total()
    assert total.seconds == {**dict.fromkeys(STAGES, 0.0), "decode": 3.5, "augment": 1.0, "queue": 5.5}
    assert (total.num_batches, total.filled_share, total.empty_share) == (4, 0.5, 0.25)
    assert total.slowest == ("decode", 3.5 / 4.5)  # of what is not waiting for the trainer
    earlier = Activity({**dict.fromkeys(STAGES, 0.0), "decode": 3.0}, 3, 1, 1.0)
    since = total.since(earlier)
    assert (since.seconds["decode"], since.num_batches, since.filled_share, since.empty_share) == (0.5, 1, 1.0, 0.0)
    assert (NOTHING.filled_share, NOTHING.empty_share, NOTHING.slowest[1]) == (0.0, 0.0, 0.0)


def loader_of(digits: Path) -> Loader:
    data = DataConfig(train=str(digits / "train.beton"), batch_size=256, resolution=32, num_workers=1, batches_ahead=2)
    return train_loader(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))


@pytest.mark.slow
def test_a_consumer_that_waits_finds_the_queue_full(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a batch when the queue holds all that it can: of 5 batches, 2 ahead, it finds none, then 2, 2, 2 and 1."""
    loader, is_counted = loader_of(digits), threading.Event()

    class Meter(ActivityMeter):
        def count(self, num_waiting: int, capacity: int) -> None:
            super().count(num_waiting, capacity)
            is_counted.set()

    def make_batch(ids: np.ndarray) -> Made:
        assert is_counted.wait(60)  # nothing is made before the trainer asks for the first time
        return Loader.make_batch(loader, ids)

    loader.meter = Meter()
    monkeypatch.setattr(loader, "make_batch", make_batch)
    batches = iter(loader)
    next(batches)
    for left in (4, 3, 2, 1):
        assert loader._producer is not None
        while loader._producer._queue.qsize() < min(2, left):
            time.sleep(0.001)
        next(batches)
    assert next(batches, None) is None
    activity = loader.activity
    assert len(loader) == activity.num_batches == 5
    assert activity.empty_share == pytest.approx(1 / 5)
    assert activity.filled_share == pytest.approx((0 + 1 + 1 + 1 + 0.5) / 5)


@pytest.mark.slow
def test_one_clock_is_read_for_each_stage_of_a_batch(digits: Path) -> None:
    """With a clock that goes on by one at each reading, each stage of 5 batches takes 5."""
    loader, readings = loader_of(digits), itertools.count()
    loader.meter = ActivityMeter(lambda: float(next(readings)))
    for _ in loader:
        pass
    assert loader.activity.seconds == dict.fromkeys(STAGES, 5.0)
    assert next(readings) == 1 + 1 + 5 * len(STAGES)  # the meter is made, the thread begins
