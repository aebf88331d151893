"""What write_beton stores is what Pillow sees, stock FFCV reads it, and its bytes depend on nothing but source and settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from PIL import Image

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.format import layout
from deit_fast.data.format.beton import open_beton
from tests.data.image_folders import convert, make_images, make_images_with_bad_ones, smooth_image
from tests.data.stored import stored_images
from tests.pillows import resized

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("os_cache", [True, False])
def test_stock_ffcv_loads_the_images_and_labels(tmp_path: Path, os_cache: bool) -> None:
    source = make_images(tmp_path / "images")
    convert(source, tmp_path / "set.beton", mode="proportion")
    loader = Loader(
        str(tmp_path / "set.beton"),
        batch_size=12,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        os_cache=os_cache,
        pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]},
    )
    [(images_BHWC, labels)] = [tuple(part.copy() for part in batch) for batch in loader]
    assert labels[:, 0].tolist() == [0] * 5 + [1] * 4 + [2] * 3
    modes = [mode for mode, _ in stored_images(tmp_path / "set.beton")]
    assert {"jpg", "raw"} == set(modes)
    for sample, (image, mode) in enumerate(zip(images_BHWC, modes, strict=True)):
        difference = np.abs(image.astype(int) - smooth_image(sample))
        assert difference.mean() < (3 if mode == "jpg" else 1e-9)


def test_raw_pixels_are_pillows(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images")
    convert(source, tmp_path / "full.beton", mode="raw")
    convert(source, tmp_path / "small.beton", mode="raw", max_resolution=32)
    for sample, (full, small) in enumerate(
        zip(stored_images(tmp_path / "full.beton"), stored_images(tmp_path / "small.beton"), strict=True)
    ):
        np.testing.assert_array_equal(full[1], smooth_image(sample))
        reference = resized(Image.fromarray(smooth_image(sample)), (32, 24))
        np.testing.assert_array_equal(small[1], np.asarray(reference))


def test_jpeg_quality_is_the_one_asked_for(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images")
    errors, sizes = {}, {}
    for quality in (30, 95):
        path = tmp_path / f"{quality}.beton"
        convert(source, path, jpeg_quality=quality)
        sizes[quality] = open_beton(path).sizes.sum()
        images = [image.astype(int) for _, image in stored_images(path)]
        errors[quality] = np.mean([np.abs(image - smooth_image(i)) for i, image in enumerate(images)])
    assert sizes[30] < sizes[95]
    assert errors[95] < errors[30] < 6


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images", {"cat": 140, "dog": 150}, height=16, width=20)
    contents = []
    for num_workers in (1, 2, 5):
        path = tmp_path / f"{num_workers}.beton"
        manifest = convert(source, path, mode="proportion", jpeg_share=0.3, seed=7, num_workers=num_workers)
        contents.append((path.read_bytes(), manifest["digests"]))
    assert contents[0] == contents[1] == contents[2]
    modes = [mode for mode, _ in stored_images(tmp_path / "1.beton")]
    assert 56 <= modes.count("jpg") <= 118  # 87 expected of 290, standard deviation 7.8
    convert(source, tmp_path / "other.beton", mode="proportion", jpeg_share=0.3, seed=8)
    assert [mode for mode, _ in stored_images(tmp_path / "other.beton")] != modes


@pytest.mark.parametrize(("share", "wanted"), [(0.0, "raw"), (1.0, "jpg")])
def test_a_share_of_none_or_all_is_exact(tmp_path: Path, share: float, wanted: str) -> None:
    source = make_images(tmp_path / "images")
    convert(source, tmp_path / "set.beton", mode="proportion", jpeg_share=share)
    assert {mode for mode, _ in stored_images(tmp_path / "set.beton")} == {wanted}


@pytest.mark.slow
def test_images_larger_than_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PAGE_BYTES", 1 << 21)
    source = make_images(tmp_path / "images", {"small": 6}, height=300, width=400)
    make_images(tmp_path / "images" / "mixed", {"large": 3}, height=1100, width=1400)  # 4.6 MB: 3 pages, 8 MiB header
    make_images(tmp_path / "images" / "mixed", {"medium": 6}, height=700, width=800)  # 1.7 MB: 1 page
    convert(source, tmp_path / "set.beton", mode="raw", num_workers=3)

    reader = Reader(str(tmp_path / "set.beton"))
    assert reader.page_size == 1 << 23
    table = reader.alloc_table
    assert len(table) == 15
    np.testing.assert_array_equal(table["ptr"] // reader.page_size, (table["ptr"] + table["size"] - 1) // reader.page_size)
    order = np.argsort(table["ptr"])
    assert (table["ptr"][order][1:] >= (table["ptr"] + table["size"])[order][:-1]).all()
    wanted = [smooth_image(i, 1100, 1400) for i in range(3)]
    wanted += [smooth_image(i, 700, 800) for i in range(6)] + [smooth_image(i, 300, 400) for i in range(6)]
    for (_, image), reference in zip(stored_images(tmp_path / "set.beton"), wanted, strict=True):
        np.testing.assert_array_equal(image, reference)


def test_manifest_says_what_is_in_the_beton(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_images(tmp_path / "images")
    Image.fromarray(smooth_image(0, 20, 100)).save(source / "elk" / "9.png")
    out = tmp_path / "set.beton"
    manifest = convert(source, out, mode="raw", max_resolution=80)
    assert json.loads((tmp_path / "set.beton.json").read_text()) == manifest
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(
        f"wrote {out}: 13 images (0 JPEG, 0 of them with their source's pixels; 13 raw) in 3 classes, "
    )
    assert printed[1].endswith("; 0 odd files converted, 0 repaired, 0 skipped")
    assert manifest.pop("wall_seconds") > 0
    assert set(manifest.pop("versions")) == {"deit_fast", "ffcv", "numpy", "pillow"}
    assert WriteConfig(**manifest.pop("settings")) == WriteConfig(out=str(out), mode="raw", max_resolution=80, num_workers=1)
    assert SourceConfig(**manifest.pop("source")) == SourceConfig(path=str(source))
    digests = manifest.pop("digests")
    assert (len(digests["blocks"]), len(digests["structure"])) == (1, 64)
    pixels = np.concatenate([image.reshape(-1, 3) for _, image in stored_images(out)]) / 255
    values = manifest.pop("pixel_values")
    assert values["num_images"] == 13
    np.testing.assert_allclose(values["mean"], pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(values["std"], pixels.std(axis=0), atol=1e-6)
    small, wide = 64 * 48 * 3, 80 * 16 * 3
    assert manifest == {
        "format": 2,
        "classes": ["cat", "dog", "elk"],
        "images_per_class": [5, 4, 4],
        "num_samples": 13,
        "num_jpeg": 0,
        "num_raw": 13,
        "num_exact": 0,
        "num_tiles": 0,
        "file_bytes": out.stat().st_size,
        "stored_bytes": {
            "total": 12 * small + wide, "mean": pytest.approx((12 * small + wide) / 13), "min": wide, "max": small
        },
        "width": {"mean": pytest.approx((12 * 64 + 80) / 13), "min": 64, "max": 80},
        "height": {"mean": pytest.approx((12 * 48 + 16) / 13), "min": 16, "max": 48},
        "mean_pixels": pytest.approx((12 * small + wide) / 39),
        "max_pixels": 64 * 48,
        "exif_orientations": {},
        "num_odd": {"converted": 0, "repaired": 0, "skipped": 0},
        "odd": [],
        "files": {"seen": 13, "written": 13, "parts": 0, "not_chosen": 0, "skipped": 0, "left_out": []},
    }  # fmt: skip


def test_bad_images_are_left_out_and_named(tmp_path: Path) -> None:
    source = make_images_with_bad_ones(tmp_path / "images")
    manifest = convert(source, tmp_path / "set.beton", mode="raw", on_error="skip", num_workers=3)
    beton = open_beton(tmp_path / "set.beton")
    assert [(line["name"], line["what"], line["sample"]) for line in manifest["odd"]] == [
        ("cat/0002x.jpg", "skipped", None),
        ("dog/0000a.png", "skipped", None),
        ("elk/zz.jpeg", "skipped", None),
    ]
    assert [line["reason"][:12] for line in manifest["odd"]] == ["not an image", "OSError: ima", "empty file"]
    assert beton.num_samples == manifest["num_samples"] == 12
    assert beton.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 3
    assert manifest["images_per_class"] == [5, 4, 3]
    for sample, (_, image) in enumerate(stored_images(tmp_path / "set.beton")):
        np.testing.assert_array_equal(image, smooth_image(sample))
    table = Reader(str(tmp_path / "set.beton")).alloc_table
    assert dict(zip(table["ptr"], table["sample_id"], strict=True)) == dict(zip(beton.offsets, range(12), strict=True))


@pytest.mark.parametrize(
    ("mode", "width", "fits"),
    [("raw", 65535, True), ("raw", 65536, False), ("jpg", 65500, True), ("jpg", 65501, False)],
)
def test_sides_that_the_format_cannot_hold(tmp_path: Path, mode: str, width: int, fits: bool) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.new("RGB", (width, 2)).save(tmp_path / "images" / "cat" / "wide.png")
    if fits:
        assert convert(tmp_path / "images", tmp_path / "set.beton", mode=mode)["width"]["max"] == width
        return
    with pytest.raises(UserError, match=rf"wide\.png: {width}x2 pixels.*write\.max_resolution.*write\.on_error=skip"):
        convert(tmp_path / "images", tmp_path / "set.beton", mode=mode)
    Image.new("RGB", (5, 2)).save(tmp_path / "images" / "cat" / "z.png")
    (odd,) = convert(tmp_path / "images", tmp_path / "skipped.beton", mode=mode, on_error="skip")["odd"]
    assert (odd["name"], odd["what"], odd["sample"]) == ("cat/wide.png", "skipped", None)
    assert f"{width}x2 pixels" in odd["reason"]
    assert convert(tmp_path / "images", tmp_path / "set.beton", mode=mode, max_resolution=1000)["width"]["max"] == 1000
