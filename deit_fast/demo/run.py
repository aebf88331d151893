"""Makes a set of images and trains a small DeiT on it with every command of the main job, one after another.

Each step runs as its own process and is printed as a user would type it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deit_fast.config import DemoConfig, UserError
from deit_fast.demo.debian import PACKAGES, fetch_photographs
from deit_fast.demo.digits import make_digits
from deit_fast.demo.photos import NUM_IMAGES, find_photographs, make_photos

_MARKER = ".deit_fast_demo"
_DIRS = {"digits": "runs/demo", "photos": "runs/demo_photos"}
_RECIPES = {"digits": "deit_configs/demo.yaml", "photos": "deit_configs/demo_photos.yaml"}  # come with the package


def demo(config: DemoConfig, num_photos: Mapping[str, int] = NUM_IMAGES, recipe: str = "") -> dict[str, Any]:
    """`deit-fast demo`: set -> image folder -> betons -> training -> evaluation -> throughput -> report; ends in a table.

    config.dir becomes the run's folder, with the images and betons in its folder `digits` or `photos`. num_photos: images of
    both splits of the photos. recipe: a configuration file in place of the set's own. Raises UserError if the folder holds
    something other than an earlier demonstration, if photographs are missing or unfit, or if one of the commands fails.
    """
    if config.photographs and config.set != "photos":
        raise UserError(f"demo.photographs={config.photographs}: is for photos; want --demo.set=photos beside it")
    folder = Path(config.dir or _DIRS[config.set])
    images = folder / config.set
    _check(folder)
    if config.set == "digits":
        _clear(folder)
        num_train, num_val = make_digits(images)
    else:
        with _photographs(config.photographs, folder) as photographs:
            _clear(folder)
            num_train, num_val = make_photos(images, photographs, num_photos)
    print(f"wrote {num_train:,} training and {num_val:,} validation images to {images}")

    for split in ("train", "val"):
        _run("write", f"--source.path={images / split}", f"--write.out={images / split}.beton")
    data = [
        f"--config-file={recipe or _RECIPES[config.set]}",
        f"--data.train={images / 'train.beton'}",
        f"--data.val={images / 'val.beton'}",
    ]
    best = folder / "checkpoints" / "best.pt"
    _run("train", *data, f"--run.dir={folder}")
    _run("eval", f"--eval.checkpoint={best}", f"--data.val={images / 'val.beton'}", f"--out={folder / 'eval.json'}")
    _run("bench", *data, f"--out={folder / 'bench.json'}")
    _run("report", str(folder))
    result = _result(folder, best)
    print(_table(result))
    return result


@contextmanager
def _photographs(own: str, folder: Path) -> Iterator[dict[str, Path]]:
    """The photographs in the user's own folder; if that is "", Debian's, which are deleted when the block ends.

    folder: of the demonstration, which will be replaced. Raises UserError if the photographs lie in it.
    """
    if own:
        photographs = Path(own).resolve()
        if folder.resolve() in (photographs, *photographs.parents):
            raise UserError(f"demo.photographs={own}: lies in demo.dir={folder}, which is replaced; choose another folder")
        yield find_photographs(Path(own))
        return
    print(f"downloads {' and '.join(PACKAGES)}, 140 MB, and installs nothing", flush=True)
    with tempfile.TemporaryDirectory(prefix="deit_fast_demo_") as scratch:
        yield fetch_photographs(Path(scratch))


def _result(folder: Path, best: Path) -> dict[str, Any]:
    """Gathers what the commands have written about the run."""
    summary = json.loads((folder / "summary.json").read_text())
    evaluation = json.loads((folder / "eval.json").read_text())
    rates = json.loads((folder / "bench.json").read_text())["images_per_second"]
    return {
        "top1": evaluation["top1"],
        "weights": evaluation["weights"],
        "num_images": evaluation["num_images"],
        "images_per_second": rates,
        "seconds": summary["seconds"],
        "wall_seconds": summary["wall_seconds"],
        "checkpoint": str(best),
        "report": str(folder / "report.html"),
    }


def _check(folder: Path) -> None:
    """Raises UserError if the folder may not be replaced."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).exists():
        raise UserError(f"demo.dir={folder}: holds something other than an earlier demonstration; choose another folder")


def _clear(folder: Path) -> None:
    """Makes the folder, empty but for the mark by which a later demonstration knows that it may replace it."""
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
