"""Makes the images and JPEGs on which fidelity is measured, from a seed or a source."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import at_most
from deit_fast.data.convert.write import write_beton
from deit_fast.output import silent

_LEAST_SIDE, _GREATEST_SIDE = 32, 320  # pixels
_SMOOTH, _NOISE = 2, 3  # of the four kinds of random images; the others are like photographs
_JPEG = b"\xff\xd8"


@dataclass(frozen=True, eq=False)
class Material:
    """Input of the comparisons: the same for the same seed and source.

    images: (height, width, 3) uint8 each, both sides 32 to 320, smaller only where the source's are; jpegs: encoded images;
    beton: these, in their order, as `deit-fast write` stores them.
    """

    seed: int
    images: list[NDArray[np.uint8]]
    jpegs: list[bytes]
    beton: Path

    def generator(self, purpose: int) -> np.random.Generator:
        """A generator for one purpose, independent of the draws for others."""
        return np.random.Generator(np.random.Philox(key=[self.seed, purpose]))


Pair = tuple[NDArray[Any], NDArray[Any]]
Pairs = Callable[[Material, np.random.Generator], Iterator[Pair]]


@dataclass(frozen=True)
class Row:
    """A comparison: `pairs` gives ours and the reference's, arrays of one shape, for one image or batch after another.

    Random values (box, magnitude, sign, order, lambda) are drawn once and given to both sides. max_wanted: largest allowed
    absolute difference; share_wanted: largest allowed share of values that differ; None: any. lack: what this machine lacks to
    measure it, in words.
    """

    name: str
    reference: str
    pairs: Pairs
    max_wanted: float | None = 0.0
    share_wanted: float | None = None
    lack: Callable[[], str] = str


def random_material(folder: Path, count: int, seed: int, num_workers: int) -> Material:
    """`count` images of random sizes, half of them like photographs, the others smooth or noise; files go to the folder."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    images = [_image(generator, number) for number in range(count)]
    jpegs = [_encoded(generator, image, may_be_progressive=number % 4 != _NOISE) for number, image in enumerate(images)]
    return _with_beton(folder, seed, images, jpegs, num_workers)


def source_material(folder: Path, source: SourceConfig, count: int | None, seed: int, num_workers: int) -> Material:
    """`count` random boxes cut out of a source's images, up to 320 pixels wide and high; of so many images at most, from each
    class its share; None: one box of each image. JPEGs are the source's own, those of other images are made."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    with closing(open_source(source)) as opened:
        some = at_most(opened, count, seed)
        images, jpegs = [], []
        for sample in range(some.num_samples):
            stored = some.read(sample)
            pixels = _decoded(stored) if isinstance(stored, bytes) else stored
            is_rgb_jpeg = isinstance(stored, bytes) and stored.startswith(_JPEG) and _mode(stored) == "RGB"
            jpegs.append(stored if isinstance(stored, bytes) and is_rgb_jpeg else _encoded(generator, pixels))
            images += [_box(generator, pixels) for _ in range(sample, max(count or 0, some.num_samples), some.num_samples)]
    return _with_beton(folder, seed, images, jpegs, num_workers)


def _with_beton(folder: Path, seed: int, images: list[NDArray[np.uint8]], jpegs: list[bytes], num_workers: int) -> Material:
    files = folder / "jpegs" / "all"
    files.mkdir(parents=True)
    for number, content in enumerate(jpegs):
        (files / f"{number:08}.jpg").write_bytes(content)
    beton = folder / "jpegs.beton"
    with silent():
        write_beton(SourceConfig(path=str(files.parent)), WriteConfig(out=str(beton), num_workers=num_workers))
    return Material(seed, images, jpegs, beton)


def _decoded(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _mode(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as image:
        return image.mode


def _box(generator: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    edges = []
    for side in image.shape[:2]:
        length = int(generator.integers(min(_LEAST_SIDE, side), min(_GREATEST_SIDE, side) + 1))
        first = int(generator.integers(side - length + 1))
        edges.append(slice(first, first + length))
    return np.ascontiguousarray(image[edges[0], edges[1]])


def _encoded(generator: np.random.Generator, image: NDArray[np.uint8], may_be_progressive: bool = False) -> bytes:
    """A JPEG of random quality and subsampling; where that may be, one in four is progressive.

    Pillow cannot write a progressive JPEG that comes out larger than it expects: noise is out, high quality too.
    """
    options: dict[str, Any] = {"quality": int(generator.integers(50, 99))}
    options["subsampling"] = ("4:2:0", "4:2:2", "4:4:4")[generator.integers(3)]
    if may_be_progressive and generator.integers(4) == 0:
        options = {"quality": min(options["quality"], 80), "subsampling": "4:2:0", "progressive": True}
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _image(generator: np.random.Generator, number: int) -> NDArray[np.uint8]:
    height, width = (int(side) for side in generator.integers(_LEAST_SIDE, _GREATEST_SIDE + 1, 2))
    if number % 4 == _NOISE:
        return _noise(generator, height, width)
    octaves = 1 if number % 4 == _SMOOTH else 5
    waves: NDArray[np.float64] = np.sum(list(_octaves(generator, height, width, octaves)), axis=0)
    contrast, brightness = generator.uniform(20, 90), generator.uniform(70, 185)
    levels = brightness + contrast * waves
    if octaves > 1:  # an edge in each channel, and the noise of a sensor
        y, x = np.mgrid[0:height, 0:width]
        slope, offset = generator.uniform(-1, 1, (2, 3))
        levels += generator.uniform(-60, 60, 3) * (
            slope * (x[..., None] / width - 0.5) + y[..., None] / height - 0.5 > offset / 4
        )
        levels += generator.normal(0, generator.uniform(0, 6), levels.shape)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _octaves(generator: np.random.Generator, height: int, width: int, count: int) -> Iterator[NDArray[np.float64]]:
    """Random waves of half the length and 0.6 of the strength each time: about the spectrum of photographs."""
    for octave in range(count):
        coarse = generator.integers(0, 256, (2 + 3 * 2**octave, 2 + 3 * 2**octave, 3), dtype=np.uint8)
        enlarged = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        yield (np.asarray(enlarged) / 127.5 - 1.0) * 0.6**octave


def _noise(generator: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Independent values from a random range of levels, or of the two ends of it alone: what filters overshoot at."""
    low, high = sorted(int(level) for level in generator.integers(0, 256, 2))
    if generator.integers(2):
        low, high = 0, 255
    values = generator.integers(low, high + 1, (height, width, 3), dtype=np.uint8)
    if generator.integers(3) == 0:
        values = np.where(values > (low + high) // 2, high, low).astype(np.uint8)
    return values
