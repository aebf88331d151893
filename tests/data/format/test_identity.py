"""By what betons are told apart: labels and stored images, wherever the file lies and whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import MIN_PAGE_SIZE, DatasetWriter
from numpy.typing import NDArray
from PIL import Image

from deit_fast.data.format.beton import open_beton
from deit_fast.data.format.identity import identity
from deit_fast.data.format.index import read_index
from tests.data.image_folders import convert, make_images, smooth_image

Samples = list[tuple[NDArray[np.uint8], int]]


class _Indexed:
    """An indexable data set for stock FFCV."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[object, ...]:
        return self._samples[index]


def _stock(path: Path, samples: Samples, num_workers: int = 1) -> dict[str, str]:
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    writer = DatasetWriter(str(path), fields, page_size=MIN_PAGE_SIZE, num_workers=num_workers)
    writer.from_indexed_dataset(_Indexed(samples))
    beton = open_beton(path)
    assert read_index(beton) is None
    return identity(beton)


def test_of_a_beton_of_ours(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images")
    convert(folder, tmp_path / "first.beton", num_workers=1)
    (tmp_path / "elsewhere").mkdir()
    convert(folder, tmp_path / "elsewhere" / "second.beton", num_workers=2)
    first = identity(open_beton(tmp_path / "first.beton"))
    assert identity(open_beton(tmp_path / "elsewhere" / "second.beton")) == first
    assert sorted(first) == ["images", "labels"]

    image = smooth_image(3)
    image[5, 7] ^= 128
    Image.fromarray(image).save(folder / "cat" / "0003.png")
    convert(folder, tmp_path / "third.beton")
    third = identity(open_beton(tmp_path / "third.beton"))
    assert third["labels"] == first["labels"]
    assert third["images"] != first["images"]

    (folder / "cat" / "0004.png").rename(folder / "dog" / "-.png")  # before all other dogs: the same images in the same order
    Image.fromarray(smooth_image(3)).save(folder / "cat" / "0003.png", compress_level=1)
    convert(folder, tmp_path / "fourth.beton")
    assert identity(open_beton(tmp_path / "fourth.beton"))["labels"] != first["labels"]


def test_of_where_images_lie(tmp_path: Path) -> None:
    """An order by pages depends on it; another order does not."""
    folder = make_images(tmp_path / "images")
    convert(folder, tmp_path / "a.beton")
    beton = open_beton(tmp_path / "a.beton")
    moved = open_beton(tmp_path / "a.beton")
    object.__setattr__(moved, "offsets", beton.offsets[::-1].copy())
    assert identity(moved) == identity(beton)
    assert identity(moved, with_places=True) != identity(beton, with_places=True)


@pytest.mark.slow
def test_of_a_stock_beton(tmp_path: Path) -> None:
    """Written anew by several processes it has the same images at other places."""
    samples: Samples = [(smooth_image(number, 40, 30), number % 3) for number in range(60)]
    first = _stock(tmp_path / "first.beton", samples)
    assert _stock(tmp_path / "second.beton", samples, num_workers=2) == first
    others = [*samples]
    others[17] = (255 - others[17][0], others[17][1])
    other = _stock(tmp_path / "third.beton", others)
    assert (other["labels"], other["images"] != first["images"]) == (first["labels"], True)
    others = [*samples]
    others[17] = (others[17][0], 1 - others[17][1] % 2)
    other = _stock(tmp_path / "fourth.beton", others)
    assert (other["images"], other["labels"] != first["labels"]) == (first["images"], True)
