"""Shards are chosen by the split that their names tell, from folders, patterns and braces."""

from __future__ import annotations

from pathlib import Path

import pytest

from deit_fast.config import UserError
from deit_fast.data.convert.sources.shards import TAR_ENDINGS, shards_of_split, split_of
from tests.data.convert.sources.samples import write_files


def shards(path: Path | str, split: str = "auto") -> list[str]:
    return list(shards_of_split(str(path), TAR_ENDINGS, split).files)


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
    write_files(tmp_path / "set", dict.fromkeys(names, b""))
    elsewhere = write_files(tmp_path / "elsewhere", {"train-3.tar": b""})
    root = tmp_path / "set"
    (root / "linked").symlink_to(elsewhere)
    (root / "linked" / "again").symlink_to(root)
    train = ["data/train-0.tar", "data/train-1.tar", "linked/train-3.tar", "z/train-2.tar.gz"]
    assert shards(root, "train") == shards(root) == train
    assert shards(root, "val") == ["data/val-0.tar"]
    assert shards(f"{root}/d*/*-0.tar", "train") == ["data/train-0.tar"]
    assert shards(root / "data/val-0.tar") == shards(root / "data/val-0.tar", "val") == ["val-0.tar"]
    beside = shards_of_split(str(root), TAR_ENDINGS, "val")
    assert [entry.name for entry in beside.left_out] == ["linked/again", "data/.train-2.tar", "notes.txt"]
    with pytest.raises(UserError, match=r"no shards of source\.split=test; want source\.split=train or val"):
        shards(root, "test")
    with pytest.raises(UserError, match=r"val-0\.tar: has no shards of source\.split=train; want source\.split=val"):
        shards(root / "data/val-0.tar", "train")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("train-{0000..0002}.tar", ["train-0000.tar", "train-0001.tar", "train-0002.tar"]),
        ("train-{2..1}.tar", ["train-1.tar", "train-2.tar"]),
        ("{train,val}-000{1,2}.tar", ["train-0001.tar", "train-0002.tar", "val-0001.tar", "val-0002.tar"]),
        ("train-000{1..2}.t*", ["train-0001.tar", "train-0002.tar"]),
        ("odd{name}.tar", ["odd{name}.tar"]),
    ],
)
def test_braces_stand_for_each_of_their_names(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    names = [f"{split}-{number:04}.tar" for split in ("train", "val") for number in range(4)]
    write_files(tmp_path, dict.fromkeys([*names, "train-1.tar", "train-2.tar", "odd{name}.tar"], b""))
    split_names = {split_of(name) for name in expected}
    found = [name for split in split_names for name in shards(tmp_path / pattern, split or "auto")]
    assert sorted(found) == expected


@pytest.mark.slow
def test_a_shard_that_braces_name_and_is_not_there_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"train-0.tar": b"", "train-2.tar": b""})
    with pytest.raises(UserError, match=r"there is no .*train-1\.tar"):
        shards(tmp_path / "train-{0..2}.tar")
    with pytest.raises(UserError, match="stands for more than 1,000,000 shards"):
        shards(tmp_path / "train-{0..99999999}.tar")


def test_names_without_a_split_are_all_taken_or_none(tmp_path: Path) -> None:
    write_files(tmp_path, {"1.tar": b"", "0.tar": b""})
    assert shards(tmp_path) == ["0.tar", "1.tar"]
    with pytest.raises(UserError, match=r"^source\.split=val: the names of the shards in .* tell no split"):
        shards(tmp_path, "val")
    write_files(tmp_path, {"train-0.tar": b""})
    for split in ("auto", "train"):
        with pytest.raises(UserError, match=r"'0\.tar' and 1 more shards do not tell their split"):
            shards(tmp_path, split)


@pytest.mark.parametrize(("name", "message"), [("", r"no files \*\.tar .*in it"), ("gone", "no such file"), ("x*", "no such")])
def test_where_there_are_no_shards_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        shards(tmp_path / name, "train")
