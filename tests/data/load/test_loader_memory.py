"""A loader's memory, threads and open files stay the same however long it runs and however often it is changed or left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.decode import largest_of
from deit_fast.data.load.forecast import loader_memory
from deit_fast.data.load.loader import Loader, train_loader
from tests.data.image_folders import convert, make_images
from tests.data.linked import make_linked
from tests.scale import scaled

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read memory from")
NUM_IMAGES = 660  # an epoch of the small loader is 10 batches, and some images are left over
WARM_UP, MANY = 20, scaled(200, 40)
MOST_BYTES = 100_000 * MANY  # a leak of 100 kB a time is seen, whatever their number


def private_bytes() -> int:
    """Memory of this process that is no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def _count(what: str) -> int:
    """Open files (fd) or threads (task) of this process."""
    return len(list(Path("/proc/self", what).iterdir()))


def _threads_after(before: int) -> int:
    """Threads of this process, once no more than `before` are left or 30 s have passed.

    One that was joined is still listed for a moment, and Numba's workers end after the thread that started them.
    """
    until = time.monotonic() + 30
    while (num_threads := _count("task")) > before and time.monotonic() < until:
        time.sleep(0.01)
    return num_threads


def make_loader(path: str, **data: object) -> Loader:
    """A small loader with the whole recipe."""
    config = DataConfig(**{"train": path, "batch_size": 64, "resolution": 32, "num_workers": 2, **data})  # type: ignore[arg-type]
    return train_loader(config, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))


def run_batches(loader: Loader, count: int) -> None:
    """Shows so many batches, in epochs of which each is another."""
    epoch = 0
    while count > 0:
        loader.set_epoch(epoch)
        count -= sum(1 for _ in loader)
        epoch += 1


def grown(path: str) -> dict[str, tuple[int, int, int]]:
    """By how much private bytes, open files and threads grow, after a warm-up, while something is done MANY times.

    Bytes are the least of up to three such times: a leak grows in each; the allocator takes some megabytes now and then.
    """
    loader = make_loader(path)

    def change_resolution() -> None:
        for resolution in (48, 32):
            loader.set_resolution(resolution)
            next(iter(loader))

    def make_another() -> None:
        another = make_loader(path)
        next(iter(another))
        another.close()

    def leave() -> None:
        for number, _ in enumerate(loader):
            if number == 3:
                break

    def leave_by_pages() -> None:
        next(iter(make_loader(path, order="pages", window_gb=0.01)))

    actions: dict[str, tuple[Callable[[], None], int]] = {
        "batches": (lambda: run_batches(loader, 25), MANY),
        "resolutions": (change_resolution, MANY // 2),
        "loaders": (make_another, MANY),
        "breaks": (leave, MANY),
        "pages": (leave_by_pages, MANY),
    }
    found = {}
    for what, (action, times) in actions.items():
        for _ in range(WARM_UP):
            action()
        num_files, num_threads = _count("fd"), _count("task")
        num_bytes = MOST_BYTES
        for _ in range(3):
            if num_bytes < MOST_BYTES:
                break
            before = private_bytes()
            for _ in range(times):
                action()
            num_bytes = min(num_bytes, private_bytes() - before)
        found[what] = (
            num_bytes,
            _count("fd") - num_files,
            _threads_after(num_threads) - num_threads,
        )
    return found


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": NUM_IMAGES // 2, "bee": NUM_IMAGES // 2}, height=40, width=50), out)
    return out


def _in_a_process(expression: str) -> Any:
    code = f"import json; from tests.data.load import test_loader_memory as t; print(json.dumps({expression}))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_THREADING_LAYER")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_nothing_grows(beton: Path) -> None:
    for what, (num_bytes, num_files, num_threads) in _in_a_process(f"t.grown({str(beton)!r})").items():
        assert num_bytes < MOST_BYTES, what
        assert num_files == 0, what
        assert num_threads <= 0, what  # fewer, where some were about to end when counting began


def _wait_until_full(loader: Loader) -> None:
    """Until all slots are lent, and nothing is written to them any more."""
    until = time.monotonic() + 120
    before = 0
    while time.monotonic() < until and (len(loader._image_slots._lent) < loader.num_slots or private_bytes() != before):
        before = private_bytes()
        time.sleep(1.0)


def measured_and_forecast(path: str) -> tuple[int, int]:
    """Private bytes that a big loader takes, and what was forecast of them."""
    data = DataConfig(train=path, batch_size=256, resolution=224, num_workers=2)
    # what Numba, its threads and the code that it loads take is no loader's
    next(iter(make_loader(path)))
    before = private_bytes()
    loader = make_loader(path, batch_size=256, resolution=224)
    batches = iter(loader)
    held = next(batches)
    _wait_until_full(loader)  # so that all slots are written to: memory that became free last is used first
    measured = private_bytes() - before
    del held
    loader.close()
    beton = open_beton(path)
    memory = loader_memory(beton.num_samples, beton.num_classes, largest_of(beton), 0, data, 2)
    return measured, sum(memory.values())


@pytest.mark.slow
def test_forecast_of_a_big_loader(tmp_path: Path) -> None:
    few, out = tmp_path / "few.beton", tmp_path / "set.beton"
    convert(make_images(tmp_path / "images", {"ant": 20, "bee": 20}, height=300, width=400), few)
    make_linked(few, out, 8 * 256)  # enough batches in an epoch that all slots are filled
    measured, forecast = _in_a_process(f"t.measured_and_forecast({str(out)!r})")
    assert measured == pytest.approx(forecast, rel=0.15)
