"""For tests of loaders that use the device: a simulator that is fast enough, and photographs for a GPU."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit_fast.data.load import gpu_decode
from tests.conftest import IS_SIMULATED
from tests.data.image_folders import convert
from tests.kernels.jpeg import decoded_by_cpu


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEGs are decoded by the CPU, and blocks are small: in the simulator each thread of a block is one of Python."""
    if not IS_SIMULATED:
        return
    from deit_fast.kernels.cuda import plan, policy, resample

    monkeypatch.setattr(gpu_decode, "decode_tiles", decoded_by_cpu.decode_tiles)
    monkeypatch.setattr(plan, "THREADS", 32)
    monkeypatch.setattr(resample, "THREADS", 32)
    monkeypatch.setattr(policy, "apply_steps", functools.partial(policy.apply_steps, threads=32))


@pytest.fixture(scope="session")
def large_betons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Up to 1,024 photographs of the folder PHOTOS, else 400 images of their sizes in ImageNet; as JPEGs with tiles and raw."""
    folder: Path = tmp_path_factory.mktemp("large")
    (folder / "images" / "only").mkdir(parents=True)
    photographs = sorted(Path(os.environ["PHOTOS"]).rglob("*.jp*g"))[:1024] if "PHOTOS" in os.environ else []
    for number, photograph in enumerate(photographs):
        shutil.copy(photograph, folder / "images" / "only" / f"{number:04}.jpg")
    generator = np.random.default_rng(1)
    for number in range(0 if photographs else 400):
        height, width = generator.integers(150, 600, 2)
        noise = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        image.save(folder / "images" / "only" / f"{number:03}.jpg", quality=90, progressive=number % 50 == 7)
    for mode in ("jpg", "raw"):
        convert(folder / "images", folder / f"{mode}.beton", num_workers=2, mode=mode)
    return {mode: folder / f"{mode}.beton" for mode in ("jpg", "raw")}
