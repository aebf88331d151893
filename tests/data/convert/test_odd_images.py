"""No image ends a conversion that skips what is bad, or is taken here and refused there; and the reasons given are true."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from deit_fast.config import UserError, VerifyConfig, WriteConfig
from deit_fast.data.convert import converter as converting
from deit_fast.data.convert import pixels
from deit_fast.data.convert.converter import Converter
from deit_fast.data.convert.pixels import BadImage, decode
from deit_fast.data.convert.transcode.encode import TileEncoder
from deit_fast.data.examine.verify import check_beton
from tests.data.convert.jpegs import cjpeg, needs_programs
from tests.data.convert.test_metadata import BROKEN, XMP, png_chunk, tiff, with_app1, with_chunks
from tests.data.image_folders import convert, make_images, smooth_image
from tests.data.odd_files import encoded
from tests.scale import scaled

PICTURE = Image.fromarray(smooth_image(3, 48, 64))
FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}, "GIF": {}, "BMP": {}, "JPEG": {}, "TGA": {},
    "PPM": {}, "ICO": {}, "JPEG2000": {}, "PCX": {}, "SGI": {}, "DDS": {}, "ICNS": {}, "AVIF": {}, "IM": {}, "EPS": {},
}  # fmt: skip


def mutated(generator: np.random.Generator, content: bytes) -> bytes:
    """Bytes changed, cut, taken out or put in; and, every second time, checksums of PNGs made right again."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, 6)):
        place = int(generator.integers(0, min(len(changed), generator.choice([64, 400, 1 << 20]))))
        kind = generator.integers(0, 6)
        if kind < 4:
            changed[place] = int(generator.choice([0, 1, 127, 128, 255, int(generator.integers(0, 256))]))
        elif kind == 4:
            del changed[place : place + int(generator.integers(1, 30))]
        else:
            changed[place:place] = generator.bytes(4)
    if generator.integers(0, 8) == 0:
        del changed[int(generator.integers(1, len(changed))) :]
    if changed[:4] == b"\x89PNG" and generator.integers(0, 2):
        at = 8
        while at + 12 <= len(changed):
            end = at + 12 + int.from_bytes(changed[at : at + 4], "big")
            changed[end - 4 : end] = zlib.crc32(changed[at + 4 : end - 4]).to_bytes(4, "big")
            at = end
    return bytes(changed)


def mutated_files(number: int, seed: int) -> list[bytes]:
    generator = np.random.default_rng(seed)
    sound = []
    for kind, options in FORMATS.items():
        for mode in ("RGB", "L", "P", "RGBA"):
            try:
                sound.append(encoded(PICTURE.convert(mode), kind, **options))
            except (OSError, ValueError):
                continue
    assert len(sound) > 40
    return [mutated(generator, sound[number % len(sound)]) for number in range(number)]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"mode": "raw", "exif_orientation": "apply", "max_resolution": 40}])
def test_whatever_an_image_is_it_is_stored_or_bad(options: dict[str, Any]) -> None:
    """Of 3,000 damaged images, or a share of them: all 3,000 were stored as they decode, or refused with a reason."""
    converter = Converter(WriteConfig(max_megapixels=0.1, **options))
    num_images, num_bad = scaled(3000, 300), 0
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        for number, content in enumerate(mutated_files(num_images, seed=len(options))):
            try:
                stored = converter.convert(number, "x", content, number % 2 == 0)
            except BadImage as bad:
                assert bad.name == "x"
                assert bad.reason and "\n" not in bad.reason
                num_bad += 1
                continue
            wanted = decode(content, "x", 100_000)
            width, height = wanted.pixels.size
            if "mode" in options and wanted.orientation > 4:
                width, height = height, width
            assert (stored.width, stored.height) == pixels.stored_size(width, height, converter.config)
    assert not escaped
    assert 0.1 * num_images < num_bad < 0.9 * num_images


@pytest.mark.slow
def test_a_folder_of_odd_files_is_converted_without_a_word(tmp_path: Path) -> None:
    """In a process that would show each warning, with the line of Pillow's that it comes from."""
    source = make_images(tmp_path / "images")
    contents = {f"m{number:03}": content for number, content in enumerate(mutated_files(scaled(200, 68), seed=7))}
    contents |= {f"b{number}": content for number, content in enumerate(BROKEN.values())}
    contents["wide"] = encoded(Image.new("RGB", (70_000, 9)), "PNG")
    contents["large"] = encoded(Image.new("1", (9_500, 9_500)), "PNG")  # of which Pillow warns
    contents["bomb"] = encoded(Image.new("1", (13_500, 13_500)), "PNG")
    contents["deep"] = with_chunks(encoded(PICTURE, "PNG"), png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9 << 20))))
    for name, content in contents.items():
        (source / "cat" / f"{name}.png").write_bytes(content)
    options = ["--write.max_resolution=64", "--write.on_error=skip", "--write.num_workers=2"]
    beton = tmp_path / "set.beton"
    environment = os.environ | {"PYTHONWARNINGS": "always"}
    commands = (
        ["write", f"--source.path={source}", f"--write.out={beton}", *options],
        ["verify", f"--verify.beton={beton}", f"--verify.against={source}", "--verify.num_workers=1"],
    )
    code = f"import sys; from deit_fast.__main__ import main; sys.exit(max(main(words) for words in {commands!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert beton.exists()
    assert "Warning" not in run.stderr and "site-packages" not in run.stdout + run.stderr


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive", "CMYK", "TIFF", "GIF", "pixels"])
def test_the_limit_of_pixels_is_the_same_however_an_image_is_read(kind: str) -> None:
    content: bytes | np.ndarray = np.asarray(PICTURE)
    if kind in ("progressive", "CMYK"):
        content = encoded(PICTURE.convert("CMYK" if kind == "CMYK" else "RGB"), progressive=kind == "progressive")
    elif kind != "pixels":
        content = encoded(PICTURE, kind)
    modes: tuple[Literal["jpg", "raw", "smart"], ...] = ("jpg", "raw", "smart")
    for mode in modes:
        for resolution in (None, 20):
            for with_histograms in (False, True):
                fits = WriteConfig(mode=mode, max_resolution=resolution, max_megapixels=64 * 48 / 1e6)
                assert Converter(fits).convert(0, "x", content, with_histograms).width == (resolution or 64)
                tight = WriteConfig(mode=mode, max_resolution=resolution, max_megapixels=(64 * 48 - 1) / 1e6)
                with pytest.raises(BadImage, match=r"pixels are more than 0\.003071 million; --write\.max_megapixels"):
                    Converter(tight).convert(0, "x", content, with_histograms)


def test_the_default_limit_is_pillows() -> None:
    assert pixels.DEFAULT_MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS  # type: ignore[operator]


@pytest.mark.parametrize("settings_known", [True, False])
@pytest.mark.slow
def test_the_limit_is_ours_and_pillows_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings_known: bool
) -> None:
    """Pillow's is set so low here that all images are over it, as large ones are where the option raises ours."""
    source = tmp_path / "images"
    (source / "cat").mkdir(parents=True)
    for kind in ("png", "jpg", "gif", "tiff"):
        PICTURE.save(source / "cat" / f"a.{kind}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(source / "cat" / "a.png")
    beton = tmp_path / "set.beton"
    manifest = convert(source, beton, mode="raw", max_megapixels=0.01)
    assert manifest["num_samples"] == 4
    assert manifest["settings"]["max_megapixels"] == 0.01
    if not settings_known:
        (tmp_path / "set.beton.json").unlink()
    assert check_beton(VerifyConfig(beton=str(beton), against=str(source), num_workers=1))["problems"] == []
    with pytest.raises(UserError, match=r"pixels are more than 0\.003 million; --write\.max_megapixels raises"):
        convert(source, tmp_path / "other.beton", max_megapixels=0.003)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("options", [{"mode": "raw"}, {"max_resolution": 40}, {}])
def test_verify_reads_orientation_and_height_as_write_does(tmp_path: Path, options: dict[str, Any]) -> None:
    source = tmp_path / "images"
    (source / "cat").mkdir(parents=True)
    plain = encoded(PICTURE, quality=95)
    turned = tiff(">", [(0x0112, 3, 1, 6)])
    late = plain[:-2].replace(b"\x08\0\x30\0\x40\3", b"\x08\0\0\0\x40\3") + b"\xff\xdc\0\4\0\x30\xff\xd9"
    contents = {
        "doubled.jpg": with_app1(plain, b"Exif\0\0" * 2 + turned),
        "xmp.jpg": with_app1(plain, XMP + b'<x tiff:Orientation="8"/>'),
        "late.jpg": late,
        "late_and_turned.jpg": with_app1(late, b"Exif\0\0" + turned),
        "doubled.png": with_chunks(encoded(PICTURE, "PNG"), png_chunk(b"eXIf", b"Exif\0\0" * 2 + turned)),
    }
    for name, content in contents.items():
        (source / "cat" / name).write_bytes(content)
    beton = tmp_path / "set.beton"
    manifest = convert(source, beton, exif_orientation="apply", **options)
    of_pillow = Counter(str(_orientation(contents[name])) for name in ("doubled.jpg", "xmp.jpg", "doubled.png"))
    del of_pillow["1"]  # Pillow 13 no longer reads EXIF that begins twice in a PNG
    assert manifest["exif_orientations"] == of_pillow + Counter({"6": 1})
    assert of_pillow["8"] == 1
    assert of_pillow["6"] >= 1
    assert manifest["num_odd"]["repaired"] == manifest["num_odd"]["skipped"] == 0
    assert check_beton(VerifyConfig(beton=str(beton), against=str(source), num_workers=1))["problems"] == []


def _raise(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError("deep"),
        OverflowError(),
        zlib.error("-3"),
        SystemError("no text\nat all"),
        AssertionError(),
    ],
)
def test_any_exception_is_of_the_image_that_raises_it(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    content = encoded(PICTURE, "PNG")
    for place, name in ((Image.Image, "convert"), (converting, "histograms"), (TileEncoder, "encode")):
        with monkeypatch.context() as patch, pytest.raises(BadImage) as caught:
            patch.setattr(place, name, _raise(error))
            Converter(WriteConfig()).convert(0, "cat/x.png", content, True)
        assert caught.value.name == "cat/x.png"
        assert ("memory" if isinstance(error, MemoryError) else type(error).__name__) in caught.value.reason
        assert "\n" not in caught.value.reason


def _reason_and_fate(content: bytes, **options: Any) -> tuple[str, str]:
    stored = Converter(WriteConfig(**options)).convert(0, "x.jpg", content, False)
    wanted = np.asarray(decode(content, "x.jpg").pixels)
    if options.get("mode") == "raw":
        np.testing.assert_array_equal(np.frombuffer(stored.stored, np.uint8).reshape(wanted.shape), wanted)
    elif stored.is_exact:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored.stored)).convert("RGB")), wanted)
    return (stored.odd.what, stored.odd.reason) if stored.odd else ("exact" if stored.is_exact else "encoded", "")


@needs_programs
def test_reasons_are_true() -> None:
    plain = encoded(PICTURE)
    grey = encoded(PICTURE.convert("L"))
    damaged = bytearray(grey)
    damaged[grey.index(b"\xff\xda") + 60 : grey.index(b"\xff\xda") + 80] = b"\xff\xd3" * 10  # restarts out of nowhere
    rare, arithmetic = cjpeg(PICTURE, "-sample", "3x1"), cjpeg(PICTURE, "-arithmetic")
    behind = plain[:-2] + b"\xff\xdc\0\4\0\x30\xff\xfe\0\3a\xff\xd9"
    late = behind.replace(b"\x08\0\x30\0\x40\3", b"\x08\0\0\0\x40\3")
    assert late != behind
    choices: tuple[dict[str, Any], ...] = ({}, {"mode": "raw"}, {"max_resolution": 40})
    for options in choices:
        good = "encoded" if options else "exact"
        for sound in (plain, grey, arithmetic, behind, late, encoded(PICTURE, progressive=True)):
            assert _reason_and_fate(sound, **options) == (good, "")
        subsampling = ("converted", "chroma subsampling that TurboJPEG does not decode")
        assert _reason_and_fate(rare, **options) == subsampling
        what, reason = _reason_and_fate(bytes(damaged), **options)
        assert what == "repaired" and reason.startswith("damaged: ")
        assert reason.endswith("decoded as far as Pillow can" + ("" if options.get("mode") == "raw" else ", and encoded again"))
    with pytest.raises(BadImage, match=r"JPEG that Pillow does not read: .*12-bit"):
        decode(plain.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "x.jpg")
    with pytest.raises(BadImage, match="not an image that Pillow knows"):
        decode(b"a letter", "x.jpg")


def _orientation(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        try:
            return int(image.getexif().get(0x0112, 1))
        except SyntaxError:  # Pillow 13, of a PNG whose EXIF begins twice
            return 1
