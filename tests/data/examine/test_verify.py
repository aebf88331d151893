"""A beton that is what was written passes; whatever byte of it changes, it does not, and the sample is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ffcv.fields import BytesField, FloatField, IntField, RGBImageField
from ffcv.types import ALLOC_TABLE_TYPE, HeaderType
from ffcv.writer import MIN_PAGE_SIZE, DatasetWriter
from PIL import Image

from deit_fast.config import InspectConfig, UserError, VerifyConfig
from deit_fast.data.examine.inspect import inspect_beton
from deit_fast.data.examine.verify import check_beton, verify_beton
from deit_fast.data.format import layout
from deit_fast.data.format.beton import manifest_path, open_beton, read_manifest
from deit_fast.data.format.index import metadata_end, read_index
from tests.data.image_folders import convert, make_images, make_images_with_bad_ones, smooth_image
from tests.scale import SCALE

SMALL_PAGE = 1 << 12  # so that a tiny beton has gaps between its images


def make_tiny_images(root: Path) -> Path:
    """12 images of 16 to 40 pixels in three classes, PNG and JPEG with and without restart markers to be put in."""
    for number in range(12):
        folder = root / ("cat", "dog", "elk")[number // 4]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(smooth_image(number, 16 + 2 * number, 40 - 2 * number))
        image.save(folder / f"{number:02}.{'png' if number % 3 == 2 else 'jpg'}", quality=90)
    return root


def check(path: Path, against: Path | None = None) -> list[tuple[int | None, str]]:
    """What is found wrong, in this process."""
    found = check_beton(VerifyConfig(beton=str(path), against=str(against or ""), num_workers=1))["problems"]
    return [(problem["sample"], problem["what"]) for problem in found]


@pytest.fixture(scope="module")
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "PAGE_BYTES", SMALL_PAGE)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_images(tmp_path_factory.mktemp("source") / "images")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, small_pages: None, source: Path) -> Path:
    """A beton of JPEG and raw images with gaps between them."""
    out = tmp_path_factory.mktemp("tiny") / "tiny.beton"
    manifest = convert(source, out, mode="proportion", jpeg_share=0.6, seed=2)
    assert 0 < manifest["num_raw"] < 12
    beton = open_beton(out)
    ends = beton.offsets + beton.sizes
    assert (beton.offsets[1:] > ends[:-1]).sum() >= 2
    return out


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images and labels as FFCV's own writer writes them."""
    path = tmp_path_factory.mktemp("stock") / "stock.beton"
    write_stock(path, "jpg")
    return path


class Samples:
    """An indexable data set for stock FFCV."""

    def __init__(self, with_note: bool) -> None:
        self.note = (np.arange(9, dtype=np.uint8), 0.5) if with_note else ()

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[object, ...]:
        return (smooth_image(index, 20 + index, 30 + index), index % 3, *self.note)


def write_stock(path: Path, mode: str, with_note: bool = False) -> None:
    fields = {"image": RGBImageField(mode), "label": IntField()}
    fields |= {"note": BytesField(), "weight": FloatField()} if with_note else {}
    DatasetWriter(str(path), fields, page_size=MIN_PAGE_SIZE, num_workers=1).from_indexed_dataset(Samples(with_note))


def owners(path: Path) -> list[int | None]:
    """The sample that each byte of a beton of ours belongs to."""
    beton = open_beton(path)
    index = read_index(beton)
    assert index is not None
    owner: list[int | None] = [None] * path.stat().st_size
    num_samples = beton.num_samples
    end = metadata_end(num_samples)
    index_start = layout.aligned(index.data_end, layout.ALIGNMENT)
    lengths_start = index_start + num_samples * layout.INDEX_TYPE.itemsize
    table_start = int(np.fromfile(path, HeaderType, 1)["alloc_table_ptr"][0])
    for sample in range(num_samples):
        row = index.rows[sample]
        length_bytes = int(row["num_tiles"]) * int(row["length_bytes"])
        places = [
            (end - (num_samples - sample) * layout.METADATA_TYPE.itemsize, layout.METADATA_TYPE.itemsize),
            (int(beton.offsets[sample]), int(beton.sizes[sample])),
            (index_start + sample * layout.INDEX_TYPE.itemsize, layout.INDEX_TYPE.itemsize),
            (lengths_start + int(row["lengths_start"]), length_bytes),
            (table_start + sample * ALLOC_TABLE_TYPE.itemsize, ALLOC_TABLE_TYPE.itemsize),
        ]
        for start, size in places:
            owner[start : start + size] = [sample] * size
    return owner


def flip_each(path: Path, places: list[int], masks: tuple[int, ...], owner: list[int | None]) -> None:
    """Changes one byte after another, wants each change to be found and its sample to be named, and no other."""
    for place in places:
        for mask in masks:
            with path.open("r+b") as file:
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ mask]))
                file.flush()
                try:
                    found = check(path)
                except UserError as error:
                    found = [(None, str(error))]
                file.seek(place)
                file.write(bytes([byte]))
            where = f"byte {place} ^ {mask}, of sample {owner[place]}: {found}"
            assert found, where
            if owner[place] is not None:
                named = {sample for sample, _ in found if sample is not None}
                named |= {
                    int(number) for sample, what in found if sample is None for number in re.findall(r"sample (\d+)", what)
                }
                assert named == {owner[place]}, where
    assert not check(path)


def copy(beton: Path, folder: Path, with_manifest: bool = True) -> Path:
    target = Path(shutil.copy(beton, folder / beton.name))
    if with_manifest:
        shutil.copy(manifest_path(beton), manifest_path(target))
    return target


def test_a_sound_beton_passes(tiny: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = verify_beton(VerifyConfig(beton=str(tiny), num_workers=2))
    assert (result["num_samples"], result["num_checked"], result["problems"]) == (12, 12, [])
    assert [kind for kind, was_possible in result["checked"].items() if not was_possible] == ["source"]
    assert json.loads(json.dumps(result)) == result
    assert "12 images" in capsys.readouterr().out


def test_a_changed_byte_is_found_and_its_sample_named(tiny: Path, tmp_path: Path) -> None:
    path, owner = copy(tiny, tmp_path), owners(tiny)
    metadata = metadata_end(12)
    table = np.fromfile(path, HeaderType, 1)["alloc_table_ptr"][0]
    places = [*range(0, metadata - 384, 89), *range(metadata - 384, metadata, 7), *range(metadata, len(owner), 83)]
    flip_each(path, [*places, *range(int(table) - 64, len(owner), 13)], (255,), owner)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("with_manifest", "share"), [(True, 1.0), (False, 0.2)])
def test_any_changed_byte_is_found_and_its_sample_named(tiny: Path, tmp_path: Path, with_manifest: bool, share: float) -> None:
    """With a manifest every byte, without one every fifth, each in one of its bits; a share of these in a usual run.

    All of them were found, with their samples.
    """
    path, owner = copy(tiny, tmp_path, with_manifest), owners(tiny)
    step = max(1, round(1 / (share * min(SCALE, 1.0))))
    for bit in range(8):
        flip_each(path, list(range(bit * step, len(owner), 8 * step)), (1 << bit,), owner)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_command_names_sample_class_and_file(
    tiny: Path, source: Path, tmp_path: Path, num_workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy(tiny, tmp_path)
    offset = int(open_beton(path).offsets[5])
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0")
    with pytest.raises(UserError, match=r"1 problem\(s\) found, the first with sample 5"):
        verify_beton(VerifyConfig(beton=str(path), num_workers=num_workers))
    assert "sample 5 (label 1, dog, dog/05.png): is not what was written" in capsys.readouterr().out


def test_many_problems_are_counted(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_images(tmp_path / "images", {"cat": 30}, 16, 16)
    path = tmp_path / "set.beton"
    convert(source, path)
    beton = open_beton(path)
    with path.open("r+b") as file:
        for offset, size in zip(beton.offsets.tolist(), beton.sizes.tolist(), strict=True):
            file.seek(offset + size - 1)
            file.write(b"\0")
    with pytest.raises(UserError, match=r"30 problem\(s\)"):
        verify_beton(VerifyConfig(beton=str(path), num_workers=2))
    assert "… and 10 more" in capsys.readouterr().out


def test_truncation_at_any_length_is_refused(tiny: Path, stock: Path, tmp_path: Path) -> None:
    for beton in (tiny, stock):
        path = copy(beton, tmp_path, beton is tiny)
        size = path.stat().st_size
        lengths = {*range(0, size, max(1, size // 300)), *range(max(0, size - 700), size)}
        lengths |= {int(place) + by for place in open_beton(beton).offsets for by in (-1, 0, 1)}
        with path.open("r+b") as file:
            for length in sorted(lengths, reverse=True):
                file.truncate(length)
                for opens in (open_beton, check):
                    with pytest.raises(UserError, match=r"truncated|not a beton") as error:
                        opens(path)
                    assert "\n" not in str(error.value)


def test_a_manifest_of_another_beton_is_found(tiny: Path, tmp_path: Path) -> None:
    path = copy(tiny, tmp_path)
    manifest = json.loads(manifest_path(path).read_text())
    digests = manifest["digests"]
    for changes, message in (
        ({"file_bytes": 5}, "file_bytes 5, it is"),
        ({"images_per_class": [5, 3, 4]}, "images_per_class"),
        ({"digests": digests | {"structure": "0" * 64}}, "all but its images"),
        ({"digests": digests | {"blocks": ["0" * 64]}}, "samples 0 to 11 are not those"),
        ({"digests": digests | {"blocks": []}}, "has not the digests of 1 blocks"),
    ):
        manifest_path(path).write_text(json.dumps(manifest | changes))
        ((sample, what),) = check(path)
        assert sample is None
        assert re.search(message, what)


def test_a_manifest_of_a_version_without_words_is_understood(tiny: Path, source: Path, tmp_path: Path) -> None:
    path = copy(tiny, tmp_path)
    manifest = json.loads(manifest_path(path).read_text())
    manifest["source"] |= {"subset": 0}
    manifest["settings"] |= {"max_resolution": 0}
    manifest_path(path).write_text(json.dumps(manifest))
    assert check(path, source) == check(tiny, source) == []
    assert inspect_beton(InspectConfig(beton=str(path)))["manifest"] == read_manifest(tiny)


def test_a_lost_index_is_missed(tiny: Path, tmp_path: Path) -> None:
    path = copy(tiny, tmp_path)
    start = int(np.fromfile(path, HeaderType, 1)["alloc_table_ptr"][0]) - layout.TRAILER_TYPE.itemsize
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(layout.TRAILER_TYPE.itemsize))
    assert check(path) == [(None, "the beton has no index, and its manifest says that it had one")]
    manifest_path(path).unlink()
    assert any("is not zero" in what for _, what in check(path))


@pytest.mark.parametrize("with_note", [False, True])
@pytest.mark.parametrize("mode", ["jpg", "raw"])
def test_betons_of_stock_ffcv_pass(tmp_path: Path, mode: str, with_note: bool) -> None:
    path = tmp_path / "stock.beton"
    write_stock(path, mode, with_note)
    result = check_beton(VerifyConfig(beton=str(path), num_workers=1))
    assert result["problems"] == []
    possible = {kind for kind, was_possible in result["checked"].items() if was_possible}
    assert possible == {"structure", "decoding"} | (set() if with_note else {"zeros between images"})


def test_damage_in_a_beton_of_stock_ffcv_is_named(stock: Path, tmp_path: Path) -> None:
    beton = open_beton(stock)
    table_start = int(np.fromfile(stock, HeaderType, 1)["alloc_table_ptr"][0])
    offset = int(beton.offsets[2])
    for place, sample, message in (
        (offset + 1, 2, "does not decode"),
        (table_start - 1, None, "between the image of sample 5 and the allocation table, is not zero"),
        (100, None, "byte 100, in the descriptions of the fields"),
        (metadata_end(2) + layout.METADATA_TYPE.fields["f1"][1] - 1, 2, "bytes that are not zero"),
        (table_start + 2 * ALLOC_TABLE_TYPE.itemsize, 2, "under sample"),
    ):
        path = copy(stock, tmp_path, with_manifest=False)
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 255]))
        ((named, what),) = check(path)
        assert named == sample
        assert message in what


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


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for path, message in (("", "verify.beton is not set"), (str(tmp_path / "none"), "no such file")):
        with pytest.raises(UserError, match=message):
            verify_beton(VerifyConfig(beton=path))


def test_several_betons_are_checked_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        convert(make_images(tmp_path / name, {"cat": 2, name: 2}), tmp_path / f"{name}.beton")
    config = VerifyConfig(beton=f"{tmp_path}/*.beton", num_workers=1)
    result = verify_beton(config)
    assert [Path(one["beton"]).name for one in result["betons"]] == ["a.beton", "b.beton", "c.beton"]
    assert result["num_samples"] == 12
    beton = open_beton(tmp_path / "b.beton")
    content = bytearray(beton.path.read_bytes())
    content[int(beton.offsets[1]) + 30] ^= 1
    beton.path.write_bytes(content)
    (tmp_path / "a.beton").write_bytes(b"")
    capsys.readouterr()
    with pytest.raises(UserError, match=r"2 of 3 betons have problems, the first .*a\.beton"):
        verify_beton(config)
    said = capsys.readouterr().out
    assert "a.beton: not a beton" in said
    assert "sample 1 (label 0, b" in said
    assert "c.beton: 4 images" in said


def test_several_betons_that_do_not_fit_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert(make_images(tmp_path / name, {name: 2}), tmp_path / f"{name}.beton")
    shutil.copy(tmp_path / "a.beton", tmp_path / "c.beton")
    with pytest.raises(UserError, match=r"c\.beton: has no class names"):
        verify_beton(VerifyConfig(beton=f"{tmp_path}/*.beton", num_workers=1))
