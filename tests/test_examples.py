"""Every example runs, as a user starts it, and does what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deit_fast import AugmentConfig, DataConfig, train_loader
from tests.tiny_runs import digits_in

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the betons of the demonstration where it leaves them."""
    folder: Path = tmp_path_factory.mktemp("examples")
    (folder / "runs" / "demo").mkdir(parents=True)
    (folder / "runs" / "demo" / "digits").symlink_to(digits_in(tmp_path_factory.getbasetemp()))
    return folder


def printed(folder: Path, name: str, *words: str) -> str:
    """What an example prints, run in the folder."""
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"train.py", "stock_loader.py", "custom_augmentation.py"}


def test_train(folder: Path) -> None:
    last = printed(folder, "train.py", "2", "runs/python").splitlines()[-1]
    found = re.fullmatch(r"top-1 (\d+\.\d\d) % after \d+ s", last)
    assert found is not None, last
    summary = json.loads((folder / "runs" / "python" / "summary.json").read_text())
    assert float(found[1]) == round(summary["best_top1"], 2)  # of the checkpoint as of the model in training
    assert (summary["epoch"], summary["stopped"]) == (1, "")
    run = json.loads((folder / "runs" / "python" / "run.json").read_text())
    assert run["command"][-3:] == [str(EXAMPLES / "train.py"), "2", "runs/python"]
    assert len((EXAMPLES / "train.py").read_text().splitlines()) < 40


def test_stock_loader(folder: Path) -> None:
    """Every image once, and normalised: with the colours of ImageNet grey digits on black have a mean well below 0."""
    found = re.fullmatch(r"1438 images, mean (-\d\.\d+)\n", printed(folder, "stock_loader.py"))
    assert found is not None
    assert -2.2 < float(found[1]) < 0


def test_custom_augmentation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(folder, "custom_augmentation.py").splitlines()
    shares = [re.fullmatch(rf"epoch {epoch}: 22 batches, (\d+\.\d) % of the pixels masked", lines[epoch]) for epoch in range(2)]
    assert all(share is not None and 25 <= float(share[1]) < 26 for share in shares), lines

    example = _imported("custom_augmentation.py")
    monkeypatch.chdir(folder)
    masked = {batch_size: _views(example, batch_size) for batch_size in (48, 96)}
    common = masked[48].keys() & masked[96].keys()
    assert len(common) > 1000
    assert all(np.array_equal(masked[48][view], masked[96][view]) for view in common)
    offsets = set()
    for image in masked[48].values():
        rows, columns = (image == 0).all(axis=0).any(axis=1), (image == 0).all(axis=0).any(axis=0)
        grid = rows[:, None] & columns[None, :]
        assert np.array_equal(grid, (image == 0).all(axis=0))
        for lines_of in (rows, columns):  # 4 of each 8 lines
            assert np.array_equal(lines_of[8:], lines_of[:-8])
            assert lines_of[:8].sum() == 4
        offsets.add((tuple(rows[:8]), tuple(columns[:8])))
    assert len(offsets) == 64


def _imported(name: str) -> Any:
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _views(example: Any, batch_size: int) -> dict[tuple[int, int], np.ndarray]:
    """Masked images (3, H, W) by sample and view, of epoch 1, without mixing and erasing."""
    augment = AugmentConfig(mixup=None, cutmix=None, erase=0.0)
    data = DataConfig(train="runs/demo/digits/train.beton", batch_size=batch_size, resolution=32)
    loader = train_loader(data, augment, seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    views = {}
    for batch in example.with_grid_masks(loader, seed=0, epoch=1, period=8):
        for image, sample, view in zip(batch.images, batch.samples.tolist(), batch.views.tolist(), strict=True):
            views[sample, view] = image.numpy().copy()
    return views
