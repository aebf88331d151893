"""A loader of as many images as ImageNet has gives its first batch soon, where its functions are compiled already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
