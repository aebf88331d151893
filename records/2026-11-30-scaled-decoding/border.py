"""Seconds until the first batch of an epoch: within a stage, and where the next one has another side, beton, or both.

border.py SET.beton SMALL.beton [ROUNDS]: SMALL has the images of SET, written smaller. Then the seconds in which SMALL is
opened and held against SET, and 1,252 times its images against as many. Run from the project's root.
"""

import dataclasses
import statistics
import sys
import time

import torch

from deit_fast.config import RunConfig
from deit_fast.data.load.loader import Loader, train_loader
from deit_fast.train.dist import World
from deit_fast.train.schedule import Stage
from deit_fast.train.stage_sets import StageSets

train, small, rounds = sys.argv[1], sys.argv[2], int((*sys.argv[3:], "9")[0])
world = World(0, 1, torch.device("cpu"))


def opened(full: str, other: str) -> tuple[RunConfig, Loader, StageSets, float]:
    config = RunConfig().changed(
        {
            "data.train": full,
            "data.num_workers": 1,
            "augment.repeats": 1,
            "train.epochs": 2,
            "schedule.stages": ({"epochs": 1, "data.train": other, "data.resolution": 96}, {"epochs": 1}),
        }
    )
    loader = train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=world.device)
    started = time.perf_counter()
    sets = StageSets(config, loader, world)
    return config, loader, sets, time.perf_counter() - started


config, loader, sets, _ = opened(train, small)
SIDES = {"96, small": (96, small), "96, full": (96, train), "224, full": (224, train)}
stages = {
    name: Stage(0, side, config.augment, dataclasses.replace(config.data, train=betons))
    for name, (side, betons) in SIDES.items()
}
borders = [
    ("96, small", "96, small"),
    ("224, full", "224, full"),
    ("96, small", "96, full"),
    ("96, full", "224, full"),
    ("96, small", "224, full"),
]
found: dict[tuple[str, str], list[float]] = {border: [] for border in borders}
for number in range(rounds + 1):  # the first does not count
    for border in borders:
        for position, name in enumerate(border):
            started = time.perf_counter()
            sets.show(stages[name])
            loader.set_resolution(stages[name].resolution)
            loader.set_epoch(number)
            batches = iter(loader)
            next(batches)
            if position and number:
                found[border].append(time.perf_counter() - started)
            for _ in zip(range(4), batches, strict=False):
                pass
for (one, other), seconds in found.items():
    shown = f"{statistics.median(seconds):.3f} s to the first batch ({min(seconds):.3f} to {max(seconds):.3f})"
    print(f"from {one} to {other}: {shown}")
loader.close()
count = loader.beton.num_samples
for times in (1, 1252):
    values = [opened(f"{train}*{times}", f"{small}*{times}")[3] for _ in range(3)]
    shown = f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"
    print(f"{count * times:,} images: opened and compared in {shown}")
