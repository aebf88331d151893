#!/usr/bin/env python3
"""Makes an image folder of photographs of many kinds, as people's data sets have them: shapes, qualities, samplings, scans.

    mixed_photos.py OUT [--count 1024] [--seed 0] [--sources FOLDER]

Each is a seeded crop of a large photograph. FOLDER holds those, as JPEG or PNG files of at least 1,600 x 1,200 pixels; without
it, ../shared/photos/make_photos.py beside the repository fetches some. Each large photograph is a class. Needs Pillow.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFilter

_MAKER = Path(__file__).resolve().parents[2] / "shared" / "photos" / "make_photos.py"
_SHAPES = {  # (width, height): share in per cent; most are those of ImageNet
    (500, 375): 45,
    (375, 500): 15,
    (500, 333): 12,
    (333, 500): 8,
    (640, 480): 10,
    (800, 600): 5,
    (1024, 768): 3,
    (1600, 1200): 2,
}
_SAMPLINGS = {"4:2:0": 60, "4:4:4": 25, "4:2:2": 15}
_QUALITIES = (75, 98)
_PROGRESSIVE_SHARE = 0.1
_CROPS_AT_A_TIME = 8  # of a large photograph, which is opened once for them
_LARGEST = max(_SHAPES)


@contextmanager
def _photographs(folder: Path | None) -> Iterator[list[Path]]:
    """The large photographs: those of a folder, or fetched ones, which are there until the block is left."""
    if folder is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        yield [path for path in files if _is_large(path)]
        return
    if not _MAKER.is_file():
        sys.exit(f"mixed_photos.py: there is no {_MAKER} to fetch photographs with; --sources FOLDER names a folder of some")
    spec = importlib.util.spec_from_file_location("make_photos", _MAKER)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    with tempfile.TemporaryDirectory() as scratch:
        yield [path for path in maker.source_photographs(Path(scratch)) if _is_large(path)]


def _is_large(path: Path) -> bool:
    with Image.open(path) as image:
        return image.width >= _LARGEST[0] and image.height >= _LARGEST[1]


def _crop(photo: Image.Image, shape: tuple[int, int], rng: random.Random) -> Image.Image:
    """A random part of the photograph with the aspect of the shape, scaled down to it, with a camera's sharpness."""
    least, most = 1.0, min(photo.width / shape[0], photo.height / shape[1])
    scale = rng.uniform(min(1.4, most), min(7.0, most)) if most > least else least
    width, height = min(int(shape[0] * scale), photo.width), min(int(shape[1] * scale), photo.height)
    left, top = rng.randint(0, photo.width - width), rng.randint(0, photo.height - height)
    part = photo.crop((left, top, left + width, top + height)).resize(shape, Image.Resampling.LANCZOS)
    return part.filter(ImageFilter.UnsharpMask(1, 120, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sources", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kinds: Counter[str] = Counter()
    num_bytes = 0
    with _photographs(options.sources) as photographs:
        if not photographs:
            sys.exit(f"mixed_photos.py: want photographs of at least {_LARGEST[0]} x {_LARGEST[1]} pixels, found none")
        for number in range(options.count):
            if number % _CROPS_AT_A_TIME == 0:
                label = rng.randrange(len(photographs))
                photo = Image.open(photographs[label]).convert("RGB")
            shape = rng.choices(list(_SHAPES), list(_SHAPES.values()))[0]
            sampling = rng.choices(list(_SAMPLINGS), list(_SAMPLINGS.values()))[0]
            quality, is_progressive = rng.randint(*_QUALITIES), rng.random() < _PROGRESSIVE_SHARE
            file = options.out / f"{label:03d}" / f"{number:05d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            image = _crop(photo, shape, rng)
            image.save(file, "JPEG", quality=quality, subsampling=sampling, progressive=is_progressive)
            kinds.update([f"{shape[0]}x{shape[1]}", sampling, "progressive" if is_progressive else "baseline"])
            num_bytes += file.stat().st_size
    print(f"{options.count} photographs, {num_bytes / options.count / 1000:.0f} kB on average, in {options.out}")
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))


if __name__ == "__main__":
    main()
