"""Betons against their sources: a whole one is its source, and each difference is named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit_fast.config import UserError, VerifyConfig
from deit_fast.data.examine.verify import check_beton, verify_beton
from deit_fast.data.format.beton import manifest_path, open_beton
from tests.data.examine.verified import check
from tests.data.image_folders import convert, make_images, make_images_with_bad_ones, smooth_image


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "raw"},
        {"mode": "smart"},
        {"max_resolution": 24},
        {"mode": "proportion", "max_resolution": 20, "resize_side": "shortest", "exif_orientation": "apply"},
    ],
)
@pytest.mark.slow
@pytest.mark.usefixtures("small_pages")
def test_a_beton_is_its_source(tmp_path: Path, options: dict[str, object]) -> None:
    source = make_images_with_bad_ones(tmp_path / "images")
    pixels = Image.fromarray(smooth_image(3, 24, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels.save(source / "cat" / "turned.jpg", exif=exif)
    pixels.save(source / "dog" / "progressive.jpg", progressive=True)
    path = tmp_path / "set.beton"
    manifest = convert(source, path, on_error="skip", **options)
    result = verify_beton(VerifyConfig(beton=str(path), against=str(source), num_workers=2))
    assert result["compared"] == {"converted_again": 14, "pixels": manifest["num_exact"] + manifest["num_raw"]}


def test_differences_from_the_source_are_named(tiny: Path, source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "images"))
    beton = open_beton(tiny)
    assert check(tiny, changed) == []
    for sample in range(beton.num_samples):
        file = next(changed.glob(f"*/{sample:02}.*"))
        before = file.read_bytes()
        pixels = np.array(Image.open(file))
        pixels[5:9, 5:9] //= 2
        Image.fromarray(pixels).save(file, quality=90)
        ((named, what),) = check(tiny, changed)
        assert named == sample
        assert re.fullmatch(r"its pixels differ from its source's by up to \d+ grey levels", what)
        file.write_bytes(before)
    Image.fromarray(smooth_image(0, 20, 20)).save(changed / "cat" / "00.jpg")
    assert check(tiny, changed) == [(0, "is 40x16 pixels, its source gives 20x20")]
    (changed / "cat" / "00.jpg").write_bytes(b"no image")
    assert check(tiny, changed) == [(0, "cannot be compared with its source: not an image that Pillow knows")]


def test_missing_images_and_other_labels_are_found(tiny: Path, source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "images"))
    (changed / "dog" / "05.png").rename(tmp_path / "05.png")
    ((sample, what),) = check(tiny, changed)
    assert sample is None
    assert "it has 12 images" in what
    assert "has 11, which were therefore not compared; class 1 (dog) has 4 here and 3 there" in what
    (tmp_path / "05.png").rename(changed / "cat" / "05.png")
    assert (4, "its label is 1, in the source 0") in [(sample, what.split(";")[0]) for sample, what in check(tiny, changed)]
    (changed / "cat").rename(changed / "ant")
    assert any("class 0 is 'cat', there 'ant'" in what for _, what in check(tiny, changed))
    with pytest.raises(UserError, match="no such folder"):
        check(tiny, tmp_path / "nothing")


def test_without_a_manifest_pixels_are_compared(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images")
    path = tmp_path / "set.beton"
    convert(source, path, mode="raw")
    manifest_path(path).unlink()
    result = check_beton(VerifyConfig(beton=str(path), against=str(source), num_workers=1))
    assert result["problems"] == []
    assert result["compared"] == {"converted_again": 0, "pixels": 12}
