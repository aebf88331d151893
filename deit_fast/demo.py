"""Trains a small DeiT on scikit-learn's handwritten digits with every command of the main job, one after another.

Each step runs as its own process and is printed as a user would type it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deit_fast.config import DemoConfig, UserError

_MARKER = ".deit_fast_demo"
_SIDE = 32  # pixels; the digits themselves have 8
_VAL_SHARE = 0.2
_SEED = 0
_RECIPE = "deit_configs/demo.yaml"  # comes with the package


def demo(config: DemoConfig) -> dict[str, Any]:
    """`deit-fast demo`: digits -> image folder -> betons -> training -> evaluation -> throughput -> report; ends in a table.

    config.dir becomes the run's folder, with the images and betons in its folder `digits`. Raises UserError if it holds
    something other than an earlier demonstration, or if one of the commands fails.
    """
    folder = Path(config.dir)
    _clear(folder)
    digits = folder / "digits"
    num_train, num_val = make_digits(digits)
    print(f"wrote {num_train} training and {num_val} validation images, {_SIDE}x{_SIDE} JPEG, to {digits}")

    for split in ("train", "val"):
        _run("write", f"--source.path={digits / split}", f"--write.out={digits / split}.beton")
    data = [
        f"--config-file={_RECIPE}",
        f"--data.train={digits / 'train.beton'}",
        f"--data.val={digits / 'val.beton'}",
    ]
    best = folder / "checkpoints" / "best.pt"
    _run("train", *data, f"--run.dir={folder}")
    _run("eval", f"--eval.checkpoint={best}", f"--data.val={digits / 'val.beton'}", f"--out={folder / 'eval.json'}")
    _run("bench", *data, f"--out={folder / 'bench.json'}")
    _run("report", str(folder))

    summary = json.loads((folder / "summary.json").read_text())
    evaluation = json.loads((folder / "eval.json").read_text())
    rates = json.loads((folder / "bench.json").read_text())["images_per_second"]
    result = {
        "top1": evaluation["top1"],
        "weights": evaluation["weights"],
        "num_images": evaluation["num_images"],
        "images_per_second": rates,
        "seconds": summary["seconds"],
        "wall_seconds": summary["wall_seconds"],
        "checkpoint": str(best),
        "report": str(folder / "report.html"),
    }
    print(_table(result))
    return result


def make_digits(folder: Path) -> tuple[int, int]:
    """Writes scikit-learn's digits as JPEGs in folder/train/CLASS and folder/val/CLASS; gives the number of each.

    A fixed fifth of each class, drawn with a fixed seed, is for validation.
    """
    from sklearn.datasets import load_digits  # takes a second

    pixels, labels = load_digits(return_X_y=True)
    grey = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    counts = {"train": 0, "val": 0}
    generator = np.random.Generator(np.random.PCG64(_SEED))
    for label in range(10):
        indices = generator.permutation(np.flatnonzero(labels == label))
        num_val = round(len(indices) * _VAL_SHARE)
        for split, chosen in (("val", indices[:num_val]), ("train", indices[num_val:])):
            target = folder / split / str(label)
            target.mkdir(parents=True)
            for index in chosen:
                image = Image.fromarray(grey[index]).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).convert("RGB")
                image.save(target / f"{index:04d}.jpg", quality=95, subsampling=0)
            counts[split] += len(chosen)
    return counts["train"], counts["val"]


def _clear(folder: Path) -> None:
    """Makes the folder, empty but for the mark by which a later demonstration knows that it may replace it."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).exists():
        raise UserError(f"demo.dir={folder}: holds something other than an earlier demonstration; choose another folder")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARKER).touch()


def _run(command: str, *arguments: str) -> None:
    print(f"\n$ deit-fast {command} {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "deit_fast", command, *arguments], check=False)
    if done.returncode:
        raise UserError(f"`deit-fast {command}` ended with status {done.returncode}, see above")


def _table(result: dict[str, Any]) -> str:
    rates, seconds = result["images_per_second"], result["seconds"]
    rows = [
        ("top-1", f"{result['top1']:.2f} % of {result['num_images']} images it never trained on ({result['weights']} weights)"),
        *((f"images/s, {kind}", f"{rates[kind]:,.0f}") for kind in ("data", "compute", "both")),
        ("training, wall clock", f"{result['wall_seconds']:.1f} s"),
        *((f"  {kind.replace('_', ' ')}", f"{value:.1f} s") for kind, value in seconds.items()),
        ("checkpoint", result["checkpoint"]),
        ("report", result["report"]),
    ]
    width = max(len(name) for name, _ in rows)
    line = "-" * 72
    return "\n".join(["", line, *(f"{name:<{width}}   {value}" for name, value in rows), line])
