"""Parquet shards give the rows of the table; null and negative ones are named with file and row."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.write import write_beton
from tests.data.convert.sources.samples import contents, contents_in_processes, jpeg

STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def open_shards(path: Path, **options: Any) -> Source:
    return open_source(SourceConfig(path=str(path), kind="parquet", **options))


def write_shard(
    path: Path, images: list[Any], labels: list[Any], names: list[str] | None = None, rows: int = 7, **columns: Any
) -> None:
    """Hugging Face's layout: structs of bytes and path, and a description with class names where there are any."""
    structs = [image if image is None or isinstance(image, dict) else {"bytes": image, "path": "x.jpg"} for image in images]
    table = pyarrow.table({"image": pyarrow.array(structs, STRUCT), "label": labels, **columns})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=rows)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for shard in range(3):
        numbers = range(20 * shard, 20 * shard + 20)
        write_shard(
            tmp_path / f"data/train-0000{shard}-of-00003.parquet",
            [jpeg(number) for number in numbers],
            [number % 3 for number in numbers],
            ["tench", "goldfish", "shark", "ray"],
        )
    write_shard(tmp_path / "data/validation-00000-of-00001.parquet", [jpeg(99)], [3], ["tench", "goldfish", "shark", "ray"])
    return tmp_path


def test_gives_the_rows_of_the_tables(shards: Path) -> None:
    source = open_shards(shards)
    tables = [pyarrow.parquet.read_table(shards / f"data/train-0000{shard}-of-00003.parquet") for shard in range(3)]
    table = pyarrow.concat_tables(tables)
    order = np.random.default_rng(0).permutation(60).tolist()  # backward and forward, over row groups and shards
    assert [source.read(n) for n in order] == [table["image"][n]["bytes"].as_py() for n in order]
    assert [source.read(n) for n in range(60)] == [row["bytes"] for row in table["image"].to_pylist()]
    assert source.labels.tolist() == table["label"].to_pylist()
    assert source.classes == ("tench", "goldfish", "shark", "ray")
    assert source.name(27) == "data/train-00001-of-00003.parquet/7"
    starts = source.block_starts()
    assert starts is not None
    assert starts.tolist() == [0, 7, 14, 20, 27, 34, 40, 47, 54]
    assert open_shards(shards, split="val").read(0) == jpeg(99)
    assert open_shards(shards / "data/validation-00000-of-00001.parquet").num_samples == 1


def test_is_read_by_forked_processes_at_once_even_after_the_first_read(shards: Path) -> None:
    source = open_shards(shards)
    expected = contents(source)
    assert contents_in_processes(source) == [expected] * 3
    source.close()
    assert contents_in_processes(source) == [expected] * 3


@pytest.mark.parametrize("kind", [pyarrow.binary(), pyarrow.large_binary()])
@pytest.mark.parametrize("name", ["image", "img", "jpg", "png"])
def test_images_may_be_plain_binary_under_other_names(tmp_path: Path, name: str, kind: Any) -> None:
    images = pyarrow.array([jpeg(1), jpeg(2)], kind)
    labels = pyarrow.array([1, 0], pyarrow.uint8())
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a", "b"], name: images, "cls": labels}), tmp_path / "a.parquet")
    source = open_shards(tmp_path)
    assert [source.read(0), source.read(1)] == [jpeg(1), jpeg(2)]
    assert source.labels.tolist() == [1, 0]
    assert source.classes == ("0", "1")


@pytest.mark.parametrize("is_dictionary", [False, True])
def test_labels_may_be_strings(tmp_path: Path, is_dictionary: bool) -> None:
    labels = pyarrow.array(["dog", "cat", "emu", "cat"])
    write_shard(tmp_path / "a.parquet", [jpeg(n) for n in range(4)], labels.dictionary_encode() if is_dictionary else labels)
    write_shard(tmp_path / "b.parquet", [jpeg(4)], ["ant"])
    source = open_shards(tmp_path)
    assert source.classes == ("ant", "cat", "dog", "emu")
    assert source.labels.tolist() == [2, 1, 3, 1, 0]
    (tmp_path / "names.txt").write_text("emu\ndog\ncat\nant\n")
    assert open_shards(tmp_path, classes=str(tmp_path / "names.txt")).labels.tolist() == [1, 2, 0, 2, 3]
    (tmp_path / "names.txt").write_text("emu\ndog\ncat\n")
    with pytest.raises(UserError, match=r"the class 'ant' is none of the 3 class names of .*names\.txt"):
        open_shards(tmp_path, classes=str(tmp_path / "names.txt"))


def test_names_that_are_given_come_before_those_in_the_files(shards: Path) -> None:
    (shards / "names.txt").write_text("a\nb\nc\n")
    assert open_shards(shards, classes=str(shards / "names.txt")).classes == ("a", "b", "c")
    with pytest.raises(UserError, match=r"has the label 3, and .*names\.txt 3 class names"):
        open_shards(shards, split="val", classes=str(shards / "names.txt"))


def test_a_subset_is_of_whole_row_groups(shards: Path) -> None:
    whole, part = open_shards(shards), open_shards(shards, subset=12)
    assert part.labels.tolist().count(0) == 4
    read = {whole.name(n): whole.read(n) for n in range(60)}
    assert [read[part.name(n)] for n in range(12)] == [part.read(n) for n in range(12)]


EXTERNAL = {"bytes": None, "path": "/elsewhere/1.jpg"}


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        ([b"x", b"y"], [0, None], None, r"a\.parquet: row 1 has no label"),
        ([b"x", b"y"], [0, -1], None, r"a\.parquet: row 1 has the label -1: want 0 or more; sets without labels"),
        ([b"x", b"y"], [0.5, 1.0], None, r"a\.parquet: has the columns image .*; want one with labels, which are int"),
        ([b"x", b"y"], [0, 2], ["a", "b"], r"has the label 2, and .*a\.parquet 2 class names"),
        ([], pyarrow.array([], pyarrow.int64()), None, "1 shards without rows"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(
    tmp_path: Path, images: list[Any], labels: list[Any], names: list[str] | None, message: str
) -> None:
    write_shard(tmp_path / "a.parquet", images, labels, names, rows=1)
    with pytest.raises(UserError, match=message) as error:
        open_shards(tmp_path)
    assert "\n" not in str(error.value)


def test_shards_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", [b"x"], [0], ["a"])
    write_shard(tmp_path / "b.parquet", [b"x"], [0], ["b"])
    with pytest.raises(UserError, match=r"b\.parquet: other class names than in .*a\.parquet"):
        open_shards(tmp_path)
    write_shard(tmp_path / "b.parquet", [b"x"], ["a"])
    with pytest.raises(UserError, match=r"b\.parquet: its labels are names of classes, those of .*a\.parquet numbers"):
        open_shards(tmp_path, classes=str(_names(tmp_path)))


def _names(folder: Path) -> Path:
    (folder / "names.txt").write_text("a\n")
    return folder / "names.txt"


def test_damaged_files_are_named(shards: Path) -> None:
    path = shards / "data/train-00001-of-00003.parquet"
    content = path.read_bytes()
    for damaged in (b"", b"text" * 100, content[: len(content) // 2], content[:-100] + bytes(92) + content[-8:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"train-00001-of-00003\.parquet: not a Parquet file, or damaged") as error:
            open_shards(shards)
        assert "\n" not in str(error.value)
    path.write_bytes(content)
    source = open_shards(shards)
    path.write_bytes(content[:400] + bytes(len(content) - 5000) + content[len(content) - 4600 :])
    with pytest.raises(OSError, match=r"deserialize|bytes|page|end"):
        [source.read(n) for n in range(20, 40)]
    assert source.read(0) == jpeg(0)


@pytest.mark.slow
def test_a_large_row_group_does_not_fill_the_memory(tmp_path: Path) -> None:
    """150 MB in one row group with pages of 3 MB, read in much less; in a process of its own, whose peak is known."""
    random = np.random.default_rng(0)
    images = pyarrow.array([random.bytes(100_000) for _ in range(1500)], pyarrow.binary())
    table = pyarrow.table({"image": images, "label": [0] * 1500})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=1500, use_dictionary=False, write_batch_size=32)
    code = f"""
import pathlib, re
from deit_fast.config import SourceConfig
from deit_fast.data.convert.sources import open_source
def peak():  # KiB; resource's is that of the parent process, where that was larger
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
source = open_source(SourceConfig(path={str(path)!r}, kind="parquet"))
before = peak()
assert all(len(source.read(n)) == 100_000 for n in range(1500))
print(peak() - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 60_000


def write_columns(path: Path, columns: dict[str, Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize("name", ["coarse_label", "class", "target", "y"])
@pytest.mark.parametrize("images", ["pixel_values", "bytes"])
def test_the_only_columns_of_their_types_are_taken(tmp_path: Path, images: str, name: str) -> None:
    write_columns(tmp_path / "a.parquet", {name: [3, 1], images: [b"x", b"y"], "score": [0.5, 1.0]})
    source = open_shards(tmp_path)
    assert (source.labels.tolist(), source.read(1)) == ([3, 1], b"y")


def test_columns_are_chosen_by_name_where_several_may_be_meant(tmp_path: Path) -> None:
    columns = {"photo": [b"x", b"y"], "mask": [b"0", b"1"], "species": [0, 1], "genus": ["a", "b"]}
    write_columns(tmp_path / "a.parquet", columns)
    with pytest.raises(UserError, match=r"the columns photo, mask may all hold images; .*--source\.image_column="):
        open_shards(tmp_path, label_column="genus")
    with pytest.raises(UserError, match=r"the columns species, genus may all hold labels; .*--source\.label_column="):
        open_shards(tmp_path, image_column="photo")
    with pytest.raises(UserError, match=r"source\.label_column=gone: want a column with integers or strings; there are photo"):
        open_shards(tmp_path, image_column="photo", label_column="gone")
    source = open_shards(tmp_path, image_column="mask", label_column="genus")
    assert (source.classes, source.read(0)) == (("a", "b"), b"0")


@pytest.mark.parametrize(
    ("labels", "images", "message"),
    [
        (pyarrow.array([None, None]), [b"x", b"y"], r"want one with labels, which are integers or strings"),
        (pyarrow.array(["a", None]).dictionary_encode(), [b"x", b"y"], r"a\.parquet: row 1 has no label"),
        (["a", None], [b"x", b"y"], r"a\.parquet: row 1 has no label"),
        ([0, 1], pyarrow.array([None, None]), r"want one with images, which are binary or struct of bytes"),
        ([0, 1], pyarrow.array([jpeg(0), None], pyarrow.large_binary()), r"a\.parquet/1: cannot be read: is null"),
    ],
)
@pytest.mark.parametrize("with_statistics", [True, False])
def test_a_null_is_named_with_its_row(tmp_path: Path, labels: Any, images: Any, message: str, with_statistics: bool) -> None:
    table = pyarrow.table({"image": images, "label": labels})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", write_statistics=with_statistics)
    with pytest.raises(UserError, match=message):
        write_beton(
            SourceConfig(path=str(tmp_path), kind="parquet"), WriteConfig(out=str(tmp_path / "set.beton"), num_workers=1)
        )


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "is null"),
        ({"bytes": None, "path": None}, "is null"),
        (EXTERNAL, "has no bytes, but the path '/elsewhere/1.jpg'; write the shards with the images in them"),
    ],
)
@pytest.mark.slow
def test_an_image_that_is_not_there_is_skipped_or_ends_the_conversion_by_name(tmp_path: Path, image: Any, reason: str) -> None:
    write_shard(tmp_path / "a.parquet", [jpeg(0), image, jpeg(1)], [0, 1, 2])
    source, out = SourceConfig(path=str(tmp_path / "a.parquet"), kind="parquet"), tmp_path / "set.beton"
    with pytest.raises(UserError, match=rf"^a\.parquet/1: cannot be read: {re.escape(reason)}"):
        write_beton(source, WriteConfig(out=str(out), num_workers=1))
    manifest = write_beton(source, WriteConfig(out=str(out), num_workers=1, on_error="skip"))
    assert [odd["name"] for odd in manifest["odd"]] == ["a.parquet/1"]
    assert manifest["files"] | {"left_out": []} == {
        "seen": 3, "written": 2, "parts": 0, "not_chosen": 0, "skipped": 1, "left_out": []
    }  # fmt: skip
