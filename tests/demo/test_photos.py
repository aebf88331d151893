"""The set of photographs: no pixel in both splits, the same images each time, one line for photographs that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deit_fast.config import UserError
from deit_fast.demo.photos import MIN_HEIGHT, MIN_WIDTH, draw_crops, find_photographs, make_class, regions_of
from tests.demo.photographs import write_noise, write_ramp

FEW = {"train": 12, "val": 6}
NAMES = ("a", "b", "c", "d", "e", "f")  # with strips at both ends


@given(st.integers(MIN_WIDTH, 9000), st.integers(MIN_HEIGHT, 9000), st.integers(0, 2**63))
def test_crops_stay_in_regions_that_have_a_margin_between_them(width: int, height: int, seed: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    regions = regions_of(width, height, generator)
    first, last = sorted([regions.train, regions.val])
    assert 0 == first.left < first.right < last.left < last.right == width
    assert max(16, 0.019 * width - 1) <= last.left - first.right
    assert (regions.val.right - regions.val.left) / width == pytest.approx(0.2, abs=1 / MIN_WIDTH)
    assert 1 < regions.smallest < regions.largest
    for region in (regions.train, regions.val):
        assert (region.top, region.bottom) == (0, height)
        for crop in draw_crops(region, regions.smallest, regions.largest, 20, generator):
            assert region.left <= crop.left < crop.right <= region.right
            assert region.top <= crop.top < crop.bottom <= region.bottom
            assert regions.smallest <= crop.right - crop.left == crop.bottom - crop.top <= regions.largest


def test_crops_have_every_size_and_place() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    regions = regions_of(1000, 700, generator)
    crops = np.array(list(draw_crops(regions.train, regions.smallest, regions.largest, 2000, generator)))
    sides = crops[:, 2] - crops[:, 0]
    assert (sides.min(), sides.max()) == (60, 170)
    assert np.median(sides) == pytest.approx(np.sqrt(60 * 170), rel=0.05)
    assert crops[:, 0].min() - regions.train.left < 10
    assert regions.train.right - crops[:, 2].max() < 10
    assert crops[:, 1].min() < 10
    assert 700 - crops[:, 3].max() < 10


def test_no_column_is_seen_in_both_splits(tmp_path: Path) -> None:
    """By the grey levels of a ramp, of which JPEG changes some by a few: the margin has 5."""
    ends = set()
    photograph = write_ramp(tmp_path / "ramp.png")
    for name in NAMES:
        make_class(tmp_path, FEW, name, photograph)
        levels = {
            split: np.concatenate([np.asarray(Image.open(path)).ravel() for path in (tmp_path / split / name).iterdir()])
            for split in ("train", "val")
        }
        val_is_left = levels["val"].mean() < levels["train"].mean()
        left, right = ("val", "train") if val_is_left else ("train", "val")
        assert int(levels[left].max()) < int(levels[right].min())
        ends.add(val_is_left)
    assert ends == {True, False}


def test_images_are_those_of_name_and_photograph_alone(tmp_path: Path) -> None:
    photograph = write_noise(tmp_path / "noise.png", seed=0)
    contents = []
    for folder, name in (("a", "x"), ("b", "y"), ("b", "x")):
        make_class(tmp_path / folder, FEW, name, photograph)
        files = sorted((tmp_path / folder).glob(f"*/{name}/*.jpg"))
        contents.append([path.read_bytes() for path in files])
        assert [path.parent.parent.name for path in files] == ["train"] * 12 + ["val"] * 6
    assert contents[0] == contents[2] != contents[1]
    assert len(set(contents[0])) == 18


def test_images_are_jpegs_of_224_pixels_with_halved_colours(tmp_path: Path) -> None:
    make_class(tmp_path, {"train": 1, "val": 1}, "x", write_noise(tmp_path / "noise.png", seed=0))
    wanted = tmp_path / "wanted.jpg"
    Image.new("RGB", (8, 8)).save(wanted, quality=90)
    for split in ("train", "val"):
        with Image.open(tmp_path / split / "x" / "0000.jpg") as image, Image.open(wanted) as reference:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (224, 224))
            assert [part[1:3] for part in image.layer] == [(2, 2), (1, 1), (1, 1)]
            assert image.quantization == reference.quantization


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    """Its regions lie side by side as it is looked at: a ramp that is stored from top to bottom is seen from left to right."""
    with Image.open(write_ramp(tmp_path / "ramp.png")) as ramp:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise by 90 degrees
        ramp.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    for name, folder in (("ramp", "a"), ("turned", "b")):
        make_class(tmp_path / folder, FEW, "x", tmp_path / f"{name}.png")
    upright, turned = ([path.read_bytes() for path in sorted((tmp_path / f).rglob("*.jpg"))] for f in ("a", "b"))
    assert upright == turned


def test_photographs_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".c.jpg", "d.txt", "._a.png"):
        (tmp_path / name).touch()
    assert list(find_photographs(tmp_path).items()) == [("a", tmp_path / "a.png"), ("b", tmp_path / "b.JPG")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has 0 photographs (.jpg, "),
        (["a.jpg", "b.txt"], "has 1 photographs (.jpg, "),
        ([f"{number}.jpg" for number in range(1001)], "has 1,001 photographs (.jpg, "),
        (["a.jpg", "a.png"], "a.png: a.jpg has the same name; want a name of its own for each class"),
    ],
)
def test_a_folder_that_makes_no_set(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"^.*{re.escape(message)}[^\n]*$"):
        find_photographs(tmp_path)
    with pytest.raises(UserError, match="is no folder; want a folder"):
        find_photographs(tmp_path / "a")


def test_a_photograph_that_cannot_be_used(tmp_path: Path) -> None:
    small, broken = write_noise(tmp_path / "small.png", 0, width=639, height=400), tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no more")
    with pytest.raises(UserError, match=r"small\.png: has 639x400 pixels; want at least 640x320"):
        make_class(tmp_path, FEW, "x", small)
    with pytest.raises(UserError, match=r"^[^\n]*broken\.jpg: does not decode as a photograph [^\n]*; take it out[^\n]*$"):
        make_class(tmp_path, FEW, "x", broken)
    assert not (tmp_path / "train").exists()
