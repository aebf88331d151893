"""Shards are chosen by the split that their names tell; class names are read one a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from deit_fast.config import UserError
from deit_fast.data.sources.shards import names_for_labels, read_class_names, shards_of_split, split_of
from tests.data.sources.samples import write_files


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00294.parquet", "train"),
        ("data/validation-00000-of-00014.parquet", "val"),
        ("plain_text/test/0000.parquet", "test"),
        ("imagenet1k-train-0000.tar", "train"),
        ("IMAGENET_VAL_01.TAR", "val"),
        ("train/valid-3.tar", "val"),
        ("pretrained-0000.tar", None),
        ("0000.parquet", None),
        ("trainings/attest.tar", None),
    ],
)
def test_names_tell_the_split(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_a_folder_gives_the_shards_of_the_split_sorted(tmp_path: Path) -> None:
    names = ["data/train-1.tar", "data/train-0.tar", "data/val-0.tar", "data/.train-2.tar", "notes.txt", "z/train-2.tar.gz"]
    write_files(tmp_path, dict.fromkeys(names, b""))
    assert list(shards_of_split(str(tmp_path), ".tar", "train")) == ["data/train-0.tar", "data/train-1.tar"]
    assert list(shards_of_split(str(tmp_path), ".tar", "val")) == ["data/val-0.tar"]
    assert list(shards_of_split(f"{tmp_path}/d*/*-0.tar", ".tar", "train")) == ["data/train-0.tar"]
    assert list(shards_of_split(f"{tmp_path}/data/val-0.tar", ".tar", "train")) == ["val-0.tar"]
    with pytest.raises(UserError, match=r"no shards of source\.split=test; want source\.split=train or val"):
        shards_of_split(str(tmp_path), ".tar", "test")


def test_names_without_a_split_are_all_taken_or_none(tmp_path: Path) -> None:
    write_files(tmp_path, {"1.tar": b"", "0.tar": b""})
    assert list(shards_of_split(str(tmp_path), ".tar", "val")) == ["0.tar", "1.tar"]
    write_files(tmp_path, {"train-0.tar": b""})
    with pytest.raises(UserError, match=r"'0\.tar' and 1 more shards do not tell their split"):
        shards_of_split(str(tmp_path), ".tar", "val")


@pytest.mark.parametrize(("name", "message"), [("", r"no files \*\.tar in it"), ("gone", "no such file"), ("x*", "no such")])
def test_where_there_are_no_shards_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        shards_of_split(str(tmp_path / name), ".tar", "train")


def test_class_names_are_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufefftench, Tinca\r\nKätzchen\n写真".encode())
    assert read_class_names(path) == ("tench, Tinca", "Kätzchen", "写真")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a\n\nb\n", "line 2 is blank"),
        (b"a\nb\na \n", "lines 1 and 3 are both 'a'"),
        (b"\xff\xfe\xff", "not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_class_names_that_are_none_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^source\.classes={path}: {message}"):
        read_class_names(path)


def test_labels_need_as_many_names() -> None:
    assert names_for_labels("shards", 2, None, "") == ("0", "1", "2")
    assert names_for_labels("shards", 1, ["a", "b", "c"], "names.txt") == ("a", "b", "c")
    with pytest.raises(UserError, match=r"^shards: has the label 3, and names\.txt 3 class names: want at least 4"):
        names_for_labels("shards", 3, ["a", "b", "c"], "names.txt")
