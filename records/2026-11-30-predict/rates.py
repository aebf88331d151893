"""Images a second of `predict`'s views of files and of a beton, beside those of evaluation's loader, in turns.

rates.py FOLDER SET.beton THREADS [ROUNDS]: SET.beton is what `deit-fast write` makes of FOLDER. No model is run; each time
all is opened and allocated anew, as by a command.
Run from the project's root.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import eval_loader
from deit_fast.predict.inputs import list_images
from deit_fast.predict.views import ViewMaker
from deit_fast.train.trained import View

LOADER = "eval's loader"
folder, beton, num_threads, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int((*sys.argv[4:], "9")[0])
view = View(224, 0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
size = 128
data, augment = view.shown_by(DataConfig(val=beton, eval_batch_size=size, num_workers=num_threads), AugmentConfig())


def of_loader() -> Iterator[Any]:
    loader = eval_loader(data, augment, rank=0, world_size=1, device=torch.device("cpu"))
    yield from loader
    loader.close()


def of_words(word: str) -> Iterator[Any]:
    how = {"num_threads": num_threads, "batches_ahead": data.batches_ahead, "max_pixels": 10**8}
    with ViewMaker(view, batch_size=size, **how) as maker:
        yield from maker.batches(list_images([word]))


ways = {LOADER: of_loader, "predict, beton": lambda: of_words(beton), "predict, files": lambda: of_words(folder)}
walls: dict[str, list[float]] = {name: [] for name in ways}
costs: dict[str, list[float]] = {name: [] for name in ways}
for number in range(rounds + 1):  # the first does not count
    for name, batches in ways.items():
        wall, cost = time.perf_counter(), time.process_time()
        count = sum(len(batch.images) for batch in batches())
        if number:
            walls[name].append((time.perf_counter() - wall) / count)
            costs[name].append((time.process_time() - cost) / count)


def ratio(found: list[float], first: list[float]) -> str:
    ratios = sorted(b / a for a, b in zip(found, first, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


print(f"{'':16}{'images/s, times the loader':40}per second of processor time")
for name in ways:
    by_clock = f"{1 / statistics.median(walls[name]):10,.0f}  {ratio(walls[name], walls[LOADER])}"
    by_processor = f"{1 / statistics.median(costs[name]):10,.0f}  {ratio(costs[name], costs[LOADER])}"
    print(f"{name:16}{by_clock}{by_processor}")
