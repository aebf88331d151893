"""Image folders are read as torchvision reads them; what is not one, and files that do not decode, are named."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionImageFolder

from deit_fast.config import UserError
from deit_fast.data.sources import BadImage, open_image_folder, read_image, scale_down
from tests.data.image_folders import make_images, smooth_image


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_lists_what_torchvision_lists(tmp_path: Path) -> None:
    root = make_images(tmp_path / "images")
    names = ["cat/UPPER.JPG", "cat/deeper/still/one.webp", "cat/deeper/two.TIFF", "dog/.hidden.bmp", "elk/a b.pgm"]
    names += [f"dog/{folder}/image.ppm" for folder in "mzbya"]  # in no order that a file system would list by itself
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("cat/notes.txt", "cat/animation.gif", "readme.png", "dog/jpg"):
        (root / name).touch()
    (root / "elk" / "linked").symlink_to(root / "dog", target_is_directory=True)

    ours, theirs = open_image_folder(root), TorchvisionImageFolder(str(root))
    assert list(ours.classes) == theirs.classes
    assert ours.samples == theirs.samples
    assert len(ours.samples) == 12 + 10 + 10


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.touch(), "is not a folder"),
        (lambda root: root.mkdir(), "has no class folders"),
        (lambda root: (root / "cat").mkdir(parents=True), r"cat: class folder without images; want"),
    ],
    ids=["missing", "file", "empty", "empty class"],
)
def test_refuses_what_is_no_image_folder(tmp_path: Path, prepare: Callable[[Path], None], message: str) -> None:
    prepare(tmp_path / "images")
    with pytest.raises(UserError, match=message) as error:
        open_image_folder(tmp_path / "images")
    assert "\n" not in str(error.value)
    assert str(tmp_path / "images") in str(error.value)


def test_reads_every_kind_of_image_as_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(smooth_image(3))
    for mode in ("RGB", "L", "P", "CMYK", "RGBA", "1"):
        path = tmp_path / f"{mode}.tiff"
        image.convert(mode).save(path)
        pixels = read_image(path)
        assert pixels.shape == (48, 64, 3)
        assert pixels.dtype == np.uint8
        with Image.open(path) as reference:
            np.testing.assert_array_equal(pixels, np.asarray(reference.convert("RGB")))


def test_leaves_the_exif_orientation_alone(tmp_path: Path) -> None:
    image, exif = Image.fromarray(smooth_image(3)), Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), smooth_image(3))


def test_names_files_that_do_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(smooth_image(0, 200, 200))
    contents = {
        "text.jpg": (b"once upon a time", "not an image"),
        "empty.jpg": (b"", "empty file"),
        "short.jpg": (encoded(image, "JPEG")[:-600], "truncated"),
        "half.png": (encoded(image, "PNG")[:2000], "truncated"),
        "half.bmp": (encoded(image, "BMP")[:2000], "truncated"),
        "header.webp": (encoded(image, "WEBP")[:40], "Error"),
        "bomb.png": (encoded(Image.new("RGB", (1000, 1000)), "PNG"), "DecompressionBomb"),
    }
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000 * 1000 // 2 - 1)
    for name, (content, reason) in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadImage, match=reason) as error:
            read_image(path)
        assert error.value.path == str(path)
        assert "\n" not in str(error.value)
        assert str(error.value).count(str(path)) == 1
    with pytest.raises(BadImage, match="No such file"):
        read_image(tmp_path / "missing.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about odd TIFF tags
@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"]), st.integers(1, 200))
def test_damaged_images_raise_nothing_but_bad_image(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, kind: str, start: int
) -> None:
    content = encoded(Image.fromarray(smooth_image(1)), kind)
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    path.write_bytes(content[:start] + noise + content[start + len(noise) :])
    try:
        pixels = read_image(path)
    except BadImage:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3


@pytest.mark.parametrize(
    ("height", "width", "limit", "wanted"),
    [(100, 200, 50, (25, 50)), (200, 100, 50, (50, 25)), (3, 1000, 100, (1, 100)), (100, 200, 200, (100, 200))],
)
def test_scales_the_longest_side_down_as_pillow_does(height: int, width: int, limit: int, wanted: tuple[int, int]) -> None:
    image = smooth_image(0, height, width)
    scaled = scale_down(image, limit)
    assert scaled.shape == (*wanted, 3)
    reference = Image.fromarray(image).resize(wanted[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(scaled, np.asarray(reference))
    np.testing.assert_array_equal(scale_down(image, 0), image)
