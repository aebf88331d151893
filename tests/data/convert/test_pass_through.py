"""JPEGs that need no change keep their pixels exactly; odd files are stored as well as can be, and what was odd is said."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.state import State
from ffcv.reader import Reader
from numba import carray
from numpy.typing import NDArray
from PIL import Image

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.converter import Converter
from deit_fast.data.convert.pixels import BadImage, decode
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format.beton import open_beton
from deit_fast.data.format.index import read_index
from deit_fast.kernels.jpeg.turbojpeg import DecoderHandles, decode_jpeg
from deit_fast.kernels.transpose import void_pointer
from tests.data.image_folders import smooth_image
from tests.data.odd_files import encoded, make_odd_files
from tests.data.stored import stored_bytes, stored_images
from tests.pillows import resized

pytestmark = pytest.mark.timeout(300)


class AccurateDecoder(SimpleRGBImageDecoder):
    """A decoder for stock FFCV that differs from its own in one thing: TurboJPEG with the accurate DCT, images of any size.

    Images (height, width, 3) lie in the upper left corner of (largest height, largest width, 3).
    """

    def __init__(self) -> None:
        super().__init__()
        self._handles = DecoderHandles(1)  # FFCV asks for states more than once, before and after it asks for the code

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        height, width = int(self.metadata["height"].max()), int(self.metadata["width"].max())
        shape, dtype = (height, width, 3), np.dtype("u1")
        return dataclasses.replace(previous_state, jit_mode=True, shape=shape, dtype=dtype), AllocationQuery(shape, dtype)

    def generate_code(self) -> Any:
        read, imdecode = self.memory_read, decode_jpeg
        address = self._handles.pointers.ctypes.data  # FFCV would compile an array as a constant

        def decode_all(indices, destination, metadata, storage_state):  # type: ignore[no-untyped-def]
            for slot in range(len(indices)):
                field = metadata[indices[slot]]
                height, width = np.int64(field["height"]), np.int64(field["width"])
                destination[slot] = 0
                pixels = np.empty(3 * height * width, np.uint8)
                handles = carray(void_pointer(address), (1,), np.uint64)
                if imdecode(handles, read(field["data_ptr"], storage_state), height, width, pixels) == 0:
                    destination[slot, :height, :width] = pixels.reshape((height, width, 3))
            return destination[: len(indices)]

        return decode_all


def through_stock_ffcv(path: Path) -> list[NDArray[np.uint8]]:
    """The images as a stock Loader gives them with AccurateDecoder in its pipeline."""
    reader = Reader(str(path))
    sizes = [(int(row["height"]), int(row["width"])) for row in reader.metadata["f0"]]
    pipelines = {"image": [AccurateDecoder()], "label": [IntDecoder()]}
    loader = Loader(str(path), batch_size=4, num_workers=1, order=OrderOption.SEQUENTIAL, os_cache=True, pipelines=pipelines)
    images = [image.copy() for images, _ in loader for image in images]
    return [image[:height, :width] for image, (height, width) in zip(images, sizes, strict=True)]


def as_pillow_decodes(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.slow
@pytest.mark.parametrize("optimize", [False, True])
def test_odd_files(tmp_path: Path, optimize: bool) -> None:
    fate = make_odd_files(tmp_path / "images")
    out = tmp_path / "set.beton"
    source = SourceConfig(path=str(tmp_path / "images"))
    config = WriteConfig(out=str(out), num_workers=2, on_error="skip", optimize=optimize, subsampling="4:4:4", jpeg_quality=95)
    manifest = write_beton(source, config)
    names = sorted(fate)
    kept = [name for name in names if fate[name] != "skipped"]
    odd = {Path(line["name"]).name: line for line in manifest["odd"]}
    assert {name: line["what"] for name, line in odd.items()} == {
        name: what for name, what in fate.items() if what in ("converted", "repaired", "skipped")
    }
    assert [line["sample"] for line in odd.values()] == [kept.index(name) if name in kept else None for name in odd]
    reasons = {name: line["reason"] for name, line in odd.items()}
    assert reasons["a_png.JPEG"] == "PNG under the extension .jpeg"
    assert reasons["cmyk.jpg"] == reasons["ycck.jpg"] == "CMYK JPEG"
    assert reasons["grey16.png"] == "16-bit grey PNG"
    assert reasons["palette.png"] == "palette with alpha PNG"
    assert reasons["alpha.png"] == "RGB with alpha PNG"
    assert reasons["zero_bytes.jpg"] == "empty file"
    assert reasons["text.jpg"] == "not an image that Pillow knows"
    assert "truncated" in reasons["truncated.jpg"]
    assert "encoded again" in reasons["wrecked.jpg"]
    assert manifest["exif_orientations"] == {"6": 1}
    assert manifest["num_odd"] == {"converted": 6, "repaired": 1, "skipped": 3}
    assert manifest["num_exact"] == sum(what == "exact" for what in fate.values())

    ours = [stored for _, stored in stored_images(out)]
    by_stock = through_stock_ffcv(out) if optimize else ours  # which takes it many seconds to compile
    for name, stored, from_ffcv in zip(kept, ours, by_stock, strict=True):
        reference = decode((tmp_path / "images" / "odd" / name).read_bytes(), name).pixels
        np.testing.assert_array_equal(stored, from_ffcv, err_msg=name)
        if fate[name] == "exact":
            np.testing.assert_array_equal(stored, np.asarray(reference), err_msg=name)
            np.testing.assert_array_equal(stored, as_pillow_decodes((tmp_path / "images" / "odd" / name).read_bytes()))
        else:
            assert stored.shape == np.asarray(reference).shape
            assert np.abs(stored.astype(int) - np.asarray(reference)).mean() < 4, name


def test_grey_levels_of_16_bits_keep_the_upper_8() -> None:
    levels = np.arange(0, 65536, 7, dtype=np.uint16)[: 96 * 97].reshape(96, 97)
    pixels = decode(encoded(Image.fromarray(levels), "PNG"), "x.png").pixels
    np.testing.assert_array_equal(np.asarray(pixels), np.repeat((levels >> 8)[..., None], 3, axis=2))


def test_tiles_are_where_the_index_says(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    for number, subsampling in enumerate(("4:4:4", "4:2:2", "4:2:0")):
        Image.fromarray(smooth_image(number, 375, 500)).save(folder / f"{number}.jpg", subsampling=subsampling, quality=95)
    Image.fromarray(smooth_image(3, 100, 150)).save(folder / "3.png")
    write_beton(SourceConfig(path=str(tmp_path / "images")), WriteConfig(out=str(tmp_path / "set.beton"), num_workers=1))
    beton = open_beton(tmp_path / "set.beton")
    index = read_index(beton)
    assert index is not None
    assert [(int(row["mcu_width"]), int(row["mcu_height"])) for row in index.rows] == [(8, 8), (16, 8), (16, 16), (16, 16)]
    # MCUs in a row: 63 = 7 x 9 (9 x 8 pixels is nearer to 128 than 21 x 8), 32, 32, 10
    assert index.rows["interval"].tolist()[1:] == [8, 8, 10]
    assert index.rows["num_tiles"].tolist()[1:] == [4 * 47, 4 * 24, 7]
    for sample, content in enumerate(stored_bytes(tmp_path / "set.beton")):
        row = index.rows[sample]
        lengths = index.tile_lengths(sample)
        assert len(lengths) == row["num_tiles"]
        ends = int(row["header_bytes"]) + np.cumsum(lengths)
        assert int(ends[-1]) == len(content)
        markers = [content[end - 2 : end] for end in ends.tolist()]
        assert markers == [bytes([0xFF, 0xD0 + tile % 8]) for tile in range(len(lengths) - 1)] + [b"\xff\xd9"]


def test_every_kind_of_smooth_resize_is_pillows(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    content = encoded(Image.fromarray(smooth_image(0, 120, 200)), quality=95)
    (folder / "a.jpg").write_bytes(content)
    source = SourceConfig(path=str(tmp_path / "images"))
    for interpolation in ("bicubic", "bilinear", "lanczos", "hamming", "box"):
        for side, size in (("longest", (50, 30)), ("shortest", (83, 50))):
            out = tmp_path / f"{interpolation}-{side}.beton"
            options: dict[str, Any] = {"interpolation": interpolation, "resize_side": side}
            write_beton(source, WriteConfig(out=str(out), mode="raw", max_resolution=50, num_workers=1, **options))
            reference = resized(Image.open(io.BytesIO(content)), size, Image.Resampling[interpolation.upper()])
            np.testing.assert_array_equal(stored_images(out)[0][1], np.asarray(reference))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_only_if_asked_for(tmp_path: Path, orientation: int) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(smooth_image(0, 40, 60))
    image.save(folder / "a.jpg", quality=95, exif=exif)
    image.save(folder / "b.png", exif=exif)
    source = SourceConfig(path=str(tmp_path / "images"))
    for choice in ("ignore", "apply"):
        out = tmp_path / f"{choice}.beton"
        options: dict[str, Any] = {"exif_orientation": choice}
        manifest = write_beton(source, WriteConfig(out=str(out), mode="raw", num_workers=1, **options))
        assert manifest["exif_orientations"] == ({} if orientation == 1 else {str(orientation): 2})
        turned = choice == "apply" and orientation != 1
        method = [None, None, 0, 3, 1, 5, 4, 6, 2][orientation]  # Pillow's Transpose for each orientation
        for (_, stored), name in zip(stored_images(out), ("a.jpg", "b.png"), strict=True):
            with Image.open(folder / name) as reference:
                wanted = reference.transpose(Image.Transpose(method)) if turned and method is not None else reference
                np.testing.assert_array_equal(stored, np.asarray(wanted))


def test_smart_keeps_a_jpeg_only_where_it_is_worth_it(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name, pixels in (("noise", noise), ("smooth", smooth_image(0, 64, 64))):
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=95, subsampling="4:4:4")
        Image.fromarray(pixels).save(folder / f"{name}.png")
    options: dict[str, Any] = {"mode": "smart", "smart_share": 0.4, "jpeg_quality": 95, "num_workers": 1}
    out = tmp_path / "set.beton"
    manifest = write_beton(SourceConfig(path=str(tmp_path / "images")), WriteConfig(out=str(out), **options))
    assert [mode for mode, _ in stored_images(out)] == ["raw", "raw", "jpg", "jpg"]
    assert (manifest["num_jpeg"], manifest["num_raw"], manifest["num_exact"]) == (2, 2, 1)
    np.testing.assert_array_equal(stored_images(out)[0][1], as_pillow_decodes((folder / "noise.jpg").read_bytes()))
    np.testing.assert_array_equal(stored_images(out)[1][1], noise)


@pytest.mark.parametrize("options", [{"mode": "raw"}, {"max_resolution": 40}, {}])
def test_a_broken_header_does_not_spoil_the_images_after_it(options: dict[str, Any]) -> None:
    images = [encoded(Image.fromarray(smooth_image(number)), quality=95) for number in range(3)]
    broken = bytearray(images[0])
    broken[broken.index(b"\xff\xc4") + 6] = 255  # more Huffman codes than there can be
    alone, after = Converter(WriteConfig(**options)), Converter(WriteConfig(**options))
    for content in (bytes(broken), images[1][:400]):
        with pytest.raises(BadImage):
            after.convert(0, "broken.jpg", content, True)
    for number, content in enumerate(images):
        ours, wanted = (converter.convert(number, "x.jpg", content, True) for converter in (after, alone))
        assert (ours.stored, ours.odd, ours.is_exact) == (wanted.stored, None, not options)
        np.testing.assert_array_equal(ours.histograms, wanted.histograms)


def test_bad_images_are_named() -> None:
    for content, reason in ((b"", "empty file"), (b"x" * 100, "not an image that Pillow knows")):
        with pytest.raises(BadImage, match=reason) as error:
            decode(content, "cat/1.jpg")
        assert str(error.value).startswith("cat/1.jpg: ")


def test_none_of_the_files_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "images" / "cat" / "a.jpg").write_text("not an image")
    with pytest.raises(UserError, match=r"none of its 1 files is an image; cat/a\.jpg: not an image"):
        write_beton(SourceConfig(path=str(tmp_path / "images")), WriteConfig(out=str(tmp_path / "a.beton"), on_error="skip"))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
