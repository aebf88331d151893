"""A beton is opened as it was written, by us or by stock FFCV; what is damaged or none is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ffcv.fields import BytesField, Field, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffcv.types import ALLOC_TABLE_TYPE, FieldDescType, HeaderType
from ffcv.writer import MIN_PAGE_SIZE, DatasetWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format.beton import manifest_path, open_beton
from tests.data.image_folders import make_images, smooth_image
from tests.scale import scaled


class Samples:
    """An indexable data set for stock FFCV."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.rows[index]


def write_stock(path: Path, fields: dict[str, Field], rows: list[tuple[Any, ...]], page_bytes: int) -> Path:
    writer = DatasetWriter(str(path), fields, page_size=page_bytes, num_workers=2)
    writer.from_indexed_dataset(Samples(rows), chunksize=2)
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A beton with a manifest: 5 cats, 4 dogs, 3 elks, JPEG and raw."""
    folder = tmp_path_factory.mktemp("ours")
    out = folder / "set.beton"
    source = make_images(folder / "images")
    write_beton(SourceConfig(path=str(source)), WriteConfig(out=str(out), mode="proportion", num_workers=2))
    return out


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock FFCV beton of 6 images of different sizes, with three more fields around them."""
    fields = {
        "weight": FloatField(),
        "image": RGBImageField("raw"),
        "note": BytesField(),
        "label": IntField(),
        "where": NDArrayField(np.dtype("float32"), (2,)),
    }
    note, where = np.arange(9, dtype=np.uint8), np.zeros(2, np.float32)
    rows = [(0.5, smooth_image(i, 20 + i, 30 + i), note, i % 4, where) for i in range(6)]
    path = tmp_path_factory.mktemp("stock") / "stock.beton"
    return write_stock(path, fields, rows, 2 * MIN_PAGE_SIZE)


def refused(path: Path, message: str = ".") -> None:
    with pytest.raises(UserError, match=message) as error:
        open_beton(path)
    assert "\n" not in str(error.value)
    assert str(path.parent) in str(error.value)


def changed(source: Path, target: Path, change: Callable[[bytearray], object]) -> Path:
    """A copy of a beton, without its manifest, after `change` had its way with the bytes."""
    content = bytearray(source.read_bytes())
    change(content)
    target.write_bytes(content)
    return target


def header_of(content: bytearray) -> np.ndarray:
    return np.frombuffer(content, HeaderType, 1)


def descriptors_of(content: bytearray) -> np.ndarray:
    return np.frombuffer(content, FieldDescType, int(header_of(content)["num_fields"][0]), HeaderType.itemsize)


def table_of(content: bytearray) -> np.ndarray:
    return np.frombuffer(content, ALLOC_TABLE_TYPE, offset=int(header_of(content)["alloc_table_ptr"][0]))


def test_opens_our_betons(ours: Path) -> None:
    beton = open_beton(ours)
    assert (beton.path, beton.num_samples, beton.num_classes) == (ours, 12, 3)
    assert beton.classes == ("cat", "dog", "elk")
    assert beton.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 3
    assert set(beton.widths) == {64}
    assert set(beton.heights) == {48}
    arrays = (beton.labels, beton.widths, beton.heights, beton.modes, beton.offsets, beton.sizes)
    assert [array.dtype for array in arrays] == [np.int64, np.uint16, np.uint16, np.uint8, np.uint64, np.uint64]
    content = ours.read_bytes()
    for sample, (mode, offset, size) in enumerate(zip(beton.modes, beton.offsets, beton.sizes, strict=True)):
        stored = content[int(offset) : int(offset) + int(size)]
        if mode == 1:
            assert stored == smooth_image(sample).tobytes()
        else:
            assert stored.startswith(b"\xff\xd8")
            assert stored.endswith(b"\xff\xd9")
    assert open_beton(str(ours)).num_samples == 12


def test_opens_betons_of_stock_ffcv(stock: Path) -> None:
    beton = open_beton(stock)
    assert (beton.num_samples, beton.classes, beton.num_classes) == (6, None, 4)
    assert beton.labels.tolist() == [0, 1, 2, 3, 0, 1]
    assert beton.widths.tolist() == list(range(30, 36))
    assert beton.heights.tolist() == list(range(20, 26))
    content = stock.read_bytes()
    for sample, (offset, size) in enumerate(zip(beton.offsets, beton.sizes, strict=True)):
        stored = content[int(offset) : int(offset) + int(size)]
        assert stored == smooth_image(sample, 20 + sample, 30 + sample).tobytes()


def test_the_order_of_the_allocation_table_does_not_matter(tmp_path: Path, stock: Path) -> None:
    def reverse(content: bytearray) -> None:
        table_of(content)[:] = table_of(content)[::-1].copy()

    reversed_beton = open_beton(changed(stock, tmp_path / "reversed.beton", reverse))
    np.testing.assert_array_equal(reversed_beton.sizes, [(20 + i) * (30 + i) * 3 for i in range(6)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": RGBImageField("raw"), "target": IntField()}, "no IntField named 'label', its fields are 'image'"),
        ({"photo": RGBImageField("raw"), "label": IntField()}, "no RGBImageField named 'image'"),
        ({"image": IntField(), "label": IntField()}, "no RGBImageField named 'image'"),
        ({"image": RGBImageField("raw"), "label": JSONField()}, "no IntField named 'label'"),
    ],
)
def test_wants_an_image_and_a_label(tmp_path: Path, fields: dict[str, Field], message: str) -> None:
    values: dict[type[Field], Any] = {IntField: 3, RGBImageField: smooth_image(0), JSONField: {"class": 3}}
    row = tuple(values[type(field)] for field in fields.values())
    refused(write_stock(tmp_path / "other.beton", fields, [row, row], MIN_PAGE_SIZE), message)


def test_refuses_what_is_no_beton(tmp_path: Path) -> None:
    refused(tmp_path / "missing.beton", "no such file")
    refused(tmp_path, "is not a file")
    path = tmp_path / "other"
    for content, message in (
        (b"", "the file is empty"),
        (b"\2\0\2", "3 bytes are too short"),
        (b"once upon a time there was a text", "not a beton: its format version is 28271, want 2"),
        (bytes(5000), "format version is 0"),
    ):
        path.write_bytes(content)
        refused(path, message)


@given(content=st.binary(max_size=4000), disguised=st.booleans())
@settings(max_examples=scaled(200, 25))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, disguised: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "random.beton"
    path.write_bytes(b"\2\0\2\0\0\0\x80\0" + content if disguised else content)
    refused(path)


@pytest.mark.parametrize("kind", ["ours", "stock"])
def test_every_truncation_is_refused(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    content = bytearray(request.getfixturevalue(kind).read_bytes())
    table_start = int(header_of(content)["alloc_table_ptr"][0])
    images = table_of(content)["ptr"].copy()
    metadata_end = 7000 if kind == "stock" else 3000
    lengths = set(range(0, metadata_end, 7)) | {int(x) for x in images} | set(range(table_start - 30, table_start + 1))
    if kind == "ours":  # each row of the table is one image
        lengths |= set(range(table_start, len(content)))
    path = tmp_path / "short.beton"
    path.write_bytes(content)
    with path.open("r+b") as file:
        for length in sorted(lengths, reverse=True):
            file.truncate(length)
            refused(path, "truncated|not a beton")


def test_a_table_cut_between_rows_is_refused_where_it_lacks_an_image(tmp_path: Path, stock: Path) -> None:
    content = bytearray(stock.read_bytes())
    images = set(open_beton(stock).offsets.tolist())
    table = table_of(content)
    last_image = max(row for row, ptr in enumerate(table["ptr"].tolist()) if ptr in images)
    rows_cut = len(table) - last_image
    (tmp_path / "short.beton").write_bytes(content[: -rows_cut * ALLOC_TABLE_TYPE.itemsize])
    refused(tmp_path / "short.beton", "truncated or damaged beton")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: header_of(content).__setitem__("version", 3), "format version is 3"),
        (lambda content: header_of(content).__setitem__("num_fields", 0), "0 fields"),
        (lambda content: header_of(content).__setitem__("num_fields", 65535), "descriptors of 65535 fields|field type"),
        (lambda content: header_of(content).__setitem__("page_size", 12345), "page size of 12345"),
        (lambda content: header_of(content).__setitem__("num_samples", 0), "has no images"),
        (lambda content: header_of(content).__setitem__("num_samples", 2**63), "too few for 9223372036854775808"),
        (lambda content: header_of(content).__setitem__("num_samples", 13), "table has 12 rows"),
        (lambda content: header_of(content).__setitem__("alloc_table_ptr", 0), "did not come to its end"),
        (lambda content: header_of(content).__setitem__("alloc_table_ptr", 2**64 - 1), "too few"),
        (lambda content: header_of(content).__setitem__("alloc_table_ptr", 4000), "its allocation table has"),
        (lambda content: descriptors_of(content)["type_id"].__setitem__(1, 77), "field type 77"),
        (lambda content: descriptors_of(content)["type_id"].__setitem__(1, 255), "field type 255"),
        (lambda content: descriptors_of(content)["type_id"].__setitem__(1, 4), "descriptors cannot be read"),
        (lambda content: descriptors_of(content)["name"].__setitem__((1, 0), 200), "descriptors cannot be read"),
        (lambda content: content.extend(bytes(5)), "12 rows and 5 bytes"),
        (lambda content: content.extend(bytes(24 * 13)), "25 rows"),
        (lambda content: table_of(content)["ptr"].__setitem__(3, 2**64 - 5), "row 3 .* outside"),
        (lambda content: table_of(content)["ptr"].__setitem__(3, 10), "row 3 .* outside"),
        (lambda content: table_of(content)["size"].__setitem__(4, 2**64 - 5), "row 4 .* outside"),
        (lambda content: table_of(content)["ptr"].__setitem__(2, table_of(content)["ptr"][2] + 1), "not in its alloc"),
        (lambda content: table_of(content)["size"].__setitem__(slice(None), 5), "stored size of sample"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, ours: Path, change: Callable[[bytearray], object], message: str) -> None:
    refused(changed(ours, tmp_path / "odd.beton", change), message)


@pytest.mark.parametrize(
    ("column", "name", "value", "message"),
    [
        ("f0", "mode", 2, "mode of sample 7"),
        ("f0", "width", 0, "width or height of sample 7"),
        ("f0", "data_ptr", 99, "image of sample 7"),
        ("f1", None, -1, "sample 7 has label -1"),
    ],
)
def test_metadata_that_no_image_has_is_refused(
    tmp_path: Path, ours: Path, column: str, name: str | None, value: int, message: str
) -> None:
    image = RGBImageField().metadata_type
    row = np.dtype([("f0", image), ("f1", "<i8")], align=True)

    def change(content: bytearray) -> None:
        rows = np.frombuffer(content, row, 12, HeaderType.itemsize + 2 * FieldDescType.itemsize)[column]
        (rows if name is None else rows[name])[7] = value

    refused(changed(ours, tmp_path / "odd.beton", change), message)


@given(data=st.data())
@settings(max_examples=scaled(150, 20))
def test_flipped_bytes_raise_nothing_but_user_errors(
    tmp_path_factory: pytest.TempPathFactory, ours: Path, stock: Path, data: st.DataObject
) -> None:
    source = data.draw(st.sampled_from([ours, stock]))
    copy = tmp_path_factory.getbasetemp() / f"flipped-{source.name}"
    if not copy.exists():
        copy.write_bytes(source.read_bytes())
    size = copy.stat().st_size
    places = st.integers(0, 7000) | st.integers(1, 600).map(lambda back: size - back)
    flips = data.draw(st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=3))
    with copy.open("r+b") as file:
        before = {}
        for place, value in flips.items():
            file.seek(place)
            before[place] = file.read(1)
            file.seek(place)
            file.write(bytes([value]))
        file.flush()
        try:
            assert open_beton(copy).num_samples > 0
        except UserError as error:
            assert "\n" not in str(error)
        for place, byte in before.items():
            file.seek(place)
            file.write(byte)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: "{", "is not JSON"),
        (lambda manifest: "[" * 100_000, "is not JSON"),
        (lambda manifest: "[1, 2]", "is no manifest of format 2"),
        (lambda manifest: json.dumps(manifest | {"format": 3}), "is no manifest of format 2"),
        (lambda manifest: json.dumps(manifest | {"num_samples": 11}), "says 11 samples, set.beton has 12"),
        (lambda manifest: json.dumps(manifest | {"classes": "cat"}), "classes are not a list of names"),
        (lambda manifest: json.dumps(manifest | {"classes": ["cat", "dog"]}), "has 2 classes, set.beton has label 2"),
    ],
)
def test_a_manifest_that_disagrees_is_refused(
    tmp_path: Path, ours: Path, change: Callable[[dict[str, Any]], str], message: str
) -> None:
    (tmp_path / "set.beton").write_bytes(ours.read_bytes())
    (tmp_path / "set.beton.json").write_text(change(json.loads(manifest_path(ours).read_text())))
    refused(tmp_path / "set.beton", message)
