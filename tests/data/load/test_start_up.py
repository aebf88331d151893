"""Loaders of as many images as ImageNet has, in one beton or in many: their first batch, and what they hold open."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.image_folders import convert, make_images
from tests.data.linked import make_linked

NUM_IMAGES = 1_281_167
MOST_SECONDS = 5.0

PROGRAM = """
import sys, time
import torch
from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import train_loader

start = time.perf_counter()
data = DataConfig(train=sys.argv[1], order=sys.argv[2])
loader = train_loader(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))
batch = next(iter(loader))
print(time.perf_counter() - start)
assert batch.images.shape == (128, 3, 224, 224)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A beton of so many images, of which 100 are there."""
    folder = tmp_path_factory.mktemp("large")
    convert(make_images(folder / "images", {"ant": 40, "bee": 30, "cow": 30}, height=90, width=140), folder / "small.beton")
    make_linked(folder / "small.beton", folder / "large.beton", NUM_IMAGES)
    return folder / "large.beton"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "pages"])
def test_first_batch_of_a_second_process(large: Path, order: str) -> None:
    def seconds() -> float:
        command = [sys.executable, "-c", PROGRAM, str(large), order]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # The one time that is asserted: the limit is what is asked for, and other work on the machine only adds to a time.
    # The first process compiles what is not in Numba's cache yet.
    assert any(seconds() < MOST_SECONDS for _ in range(4))


NUM_SHARDS, IMAGES_PER_SHARD = 128, 10_000
OF_SHARDS = """
import json, os, sys, time
from pathlib import Path
import torch
from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import train_loader

start = time.perf_counter()
data = DataConfig(train=sys.argv[1], order=sys.argv[2])
loader = train_loader(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))
batches = iter(loader)
next(batches)
seconds = time.perf_counter() - start
def opened():
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield str(link.readlink())
        except FileNotFoundError:  # the descriptor that lists this folder
            pass
maps = Path("/proc/self/maps").read_text().splitlines()
mapped = [line.split(maxsplit=5)[-1] for line in maps if line.endswith(".beton")]
threads = [(Path("/proc/self/task") / name / "comm").read_text().strip() for name in os.listdir("/proc/self/task")]
found = {"seconds": seconds, "opened": [path for path in opened() if ".beton" in path], "mapped": mapped, "threads": threads}
print(json.dumps({**found, "num_samples": loader.beton.num_samples}))
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pattern of 128 betons of 10,000 entries, each with images of its own."""
    folder = tmp_path_factory.mktemp("shards")
    convert(make_images(folder / "images", {"ant": 40, "bee": 30, "cow": 30}, height=90, width=140), folder / "small.beton")
    make_linked(folder / "small.beton", folder / "large.beton", IMAGES_PER_SHARD)
    for number in range(NUM_SHARDS):
        for suffix in ("beton", "beton.json"):
            shutil.copy(folder / f"large.{suffix}", folder / f"part-{number:05}.{suffix}")
    return f"{folder}/part-*.beton"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "pages"])
def test_many_shards_take_no_handles_and_no_threads(shards: str, order: str) -> None:
    """Beside one map of each. The first batch of a second process came after 1.6 to 2.5 s on two virtual cores that others used
    too, that of one beton of as many entries after 1.2 to 2.1 s."""

    def run(text: str) -> dict[str, Any]:
        command = [sys.executable, "-c", OF_SHARDS, text, order]
        found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return found

    one, many = run(shards.replace("*", "00000")), run(shards)
    print(f"{order}: first batch after {many['seconds']:.2f} s, of one shard {one['seconds']:.2f} s")
    assert many["num_samples"] == NUM_SHARDS * IMAGES_PER_SHARD
    assert many["opened"] == []
    assert len(many["mapped"]) == len(set(many["mapped"])) == NUM_SHARDS
    assert sorted(many["threads"]) == sorted(one["threads"])
