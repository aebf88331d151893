"""Views a second of the loader at the sides and magnitudes of EfficientTrain++'s stages, in turns.

rates.py SET.beton SMALL.beton [ROUNDS]: one thread, an epoch each round; SMALL has the same images with a shorter side of 192.
Run from the project's root.
"""

import statistics
import sys
import time

import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import Loader, train_loader

train, small, rounds = sys.argv[1], sys.argv[2], int((*sys.argv[3:], "5")[0])


def loader_of(side: int, magnitude: int, beton: str = train, **options: bool) -> Loader:
    data = DataConfig(train=beton, batch_size=128, resolution=side, num_workers=1, **options)
    augment = AugmentConfig(repeats=1, auto_augment=f"rand-m{magnitude}-mstd0.5-inc1")
    return train_loader(data, augment, seed=0, rank=0, world_size=1, device=torch.device("cpu"))


loaders = {
    "224, magnitude 9": loader_of(224, 9),
    "96, magnitude 0": loader_of(96, 0),
    "96, magnitude 0, dct_scaling": loader_of(96, 0, dct_scaling=True),
    "96, magnitude 0, side 192": loader_of(96, 0, small),
    "160, magnitude 3": loader_of(160, 3),
    "192, magnitude 7": loader_of(192, 7),
}
rates: dict[str, list[float]] = {name: [] for name in loaders}
for number in range(rounds + 1):  # the first does not count
    for name, loader in loaders.items():
        loader.set_epoch(number)
        started = time.perf_counter()
        views = sum(len(batch.images) for batch in loader)
        if number:
            rates[name].append(views / (time.perf_counter() - started))
first = rates["224, magnitude 9"]
for name, found in rates.items():
    ratios = [a / b for a, b in zip(found, first, strict=True)]
    print(f"{name:30}{statistics.median(found):8,.0f} views/s, {statistics.median(ratios):.2f} times the first")
