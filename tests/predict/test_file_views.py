"""Views of files that one thread makes together: those of each file alone, and of what Pillow decodes and resizes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit_fast.data.convert.pixels import BadImage
from deit_fast.predict.file_views import FileViews
from deit_fast.train.trained import View
from tests.predict.images import encoded, odd_files, photograph, sound_files, written

SIDE = 24
VIEW = View(SIDE, 0.8, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


@pytest.fixture
def maker() -> Iterator[FileViews]:
    maker = FileViews(VIEW, max_pixels=10**6)
    yield maker
    maker.close()


def _by_pillow(content: bytes) -> np.ndarray:
    """The view as torchvision's Resize and CenterCrop of Pillow's image make it, by two passes."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    short = round(SIDE / VIEW.crop_ratio)
    width, height = (short if side == min(image.size) else int(short * side / min(image.size)) for side in image.size)
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def test_sound_and_odd_files_in_any_order(maker: FileViews, tmp_path: Path) -> None:
    photographs = {f"{n}.jpg": encoded(photograph(n, 40 + 9 * n, 120 - 7 * n), "JPEG", subsampling=n % 3) for n in range(9)}
    sound = photographs | {name: content for name, content in sound_files().items() if "cmyk" not in name}
    files = sound | odd_files()
    names = list(np.random.default_rng(0).permutation(sorted(files)))
    folder = written(tmp_path / "images", files)
    views = np.zeros((len(names), SIDE, SIDE, 3), np.uint8)
    results = maker.make([str(folder / name) for name in names], views)
    for name, view, result in zip(names, views, results, strict=True):
        if name in odd_files():
            assert isinstance(result, BadImage), name
            alone = maker.make([str(folder / name)], np.zeros((1, SIDE, SIDE, 3), np.uint8))[0]
            assert str(result) == str(alone)
        else:
            assert result == "", name
        if name in photographs:
            np.testing.assert_array_equal(view, _by_pillow(files[name]))


def test_a_file_that_is_cut_below_its_view_is_named(maker: FileViews, tmp_path: Path) -> None:
    whole = encoded(photograph(3, 40, 300), "JPEG")
    files = {f"{share}.jpg": whole[: int(share * len(whole))] for share in (0.5, 0.9, 0.99)} | {
        "end.jpg": whole[:-1],
        "sound.jpg": whole,
    }
    folder = written(tmp_path / "images", files)
    results = maker.make([str(folder / name) for name in files], np.zeros((len(files), SIDE, SIDE, 3), np.uint8))
    assert [isinstance(result, BadImage) or "damaged" in result for result in results] == [True, True, True, True, False]


def test_no_files(maker: FileViews) -> None:
    assert maker.make([], np.zeros((0, SIDE, SIDE, 3), np.uint8)) == []
