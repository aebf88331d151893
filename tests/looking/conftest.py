"""Fixtures of betons and small runs. Leaves out the tests in a browser where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import RunConfig
from deit_fast.plan.training import train
from tests.report.browser import CHROMIUM
from tests.tiny_runs import TINY, digits, finished_run, tiny_config, tiny_run

__all__ = ["digits", "distilled_run", "finished_run", "tiny_run"]

Finished = tuple[RunConfig, dict[str, Any]]
collect_ignore = [] if CHROMIUM else ["test_looking_in_a_browser.py"]


@pytest.fixture(scope="session")
def distilled_run(digits: Path, finished_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a distilled run whose teacher is `finished_run`."""
    teacher = Path(finished_run[0].run.dir) / "checkpoints" / "best.pt"
    folder = tmp_path_factory.mktemp("distilled") / "run"
    options = {
        "model.name": "deit_tiny_distilled_patch16_224", "model.options": {**TINY, "embed_dim": 48, "depth": 4},
        "model.drop_path": 0.0, "distil.kind": "hard", "distil.teacher": "deit_tiny_patch16_224",
        "distil.teacher_options": TINY, "distil.teacher_weights": str(teacher), "augment.auto_augment": "off",
        "augment.erase": 0.0, "augment.mixup": None, "augment.cutmix": None, "augment.repeats": 1,
        "optim.lr": 2e-3, "optim.lr_batch_size": 64, "train.epochs": 4, "train.ema_decay": None, "train.eval_every": 4,
    }  # fmt: skip
    train(tiny_config(digits, folder, **options), ["deit-fast", "train"])
    return folder
