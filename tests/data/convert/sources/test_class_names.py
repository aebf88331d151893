"""Class names are read one a line; labels are numbers or names; other names are taken by name or by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.class_names import classes_and_labels, names_for_labels, positions, read_class_names
from tests.data.image_folders import make_images


def test_class_names_are_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufefftench, Tinca\r\nKätzchen\n写真".encode())
    assert read_class_names(path) == ("tench, Tinca", "Kätzchen", "写真")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a\n\nb\n", "line 2 is blank"),
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


def test_names_may_occur_twice_where_labels_are_numbers() -> None:
    names, shard = ("crane", "maillot", "crane"), Path("0.tar")
    classes, labels = classes_and_labels("set", [(shard, np.array([2, 0]))], names, "names.txt")
    assert (classes, labels.tolist()) == (names, [2, 0])
    classes, labels = classes_and_labels("set", [(shard, np.array(["maillot"], object))], names, "names.txt")
    assert labels.tolist() == [1]
    with pytest.raises(UserError, match=r"^set: the class 'crane' stands 2 times in names\.txt: want it once, or numbers"):
        positions(["maillot", "crane"], names, "set", "names.txt")


def test_numbers_and_names_are_not_mixed_over_shards() -> None:
    shards = [(Path("0.tar"), np.array([1])), (Path("1.tar"), np.array(["a"], object))]
    with pytest.raises(UserError, match=r"^1\.tar: its labels are names of classes, those of 0\.tar numbers: want one"):
        classes_and_labels("set", shards, None, "")


@pytest.mark.parametrize(
    ("names", "classes", "labels"),
    [
        ("elk cat ant dog", "elk cat ant dog", [1, 1, 3, 0]),  # by name, one of them without images
        ("tench goldfish shark", "tench goldfish shark", [0, 0, 1, 2]),  # other names for the same folders
    ],
)
def test_a_folder_takes_the_order_or_the_names_of_a_list(tmp_path: Path, names: str, classes: str, labels: list[int]) -> None:
    root = make_images(tmp_path / "images", {"cat": 2, "dog": 1, "elk": 1})
    (tmp_path / "names.txt").write_text(names.replace(" ", "\n"))
    source = open_source(SourceConfig(path=str(root), classes=str(tmp_path / "names.txt")))
    assert source.classes == tuple(classes.split())
    assert source.labels.tolist() == labels
    assert [source.name(n).partition("/")[0] for n in range(4)] == ["cat", "cat", "dog", "elk"]


def test_a_validation_folder_takes_the_classes_of_the_training_folder(tmp_path: Path) -> None:
    train = make_images(tmp_path / "train")
    val = make_images(tmp_path / "val", {"dog": 2})
    source = open_source(SourceConfig(path=str(val), classes=str(train)))
    assert (source.classes, source.labels.tolist()) == (("cat", "dog", "elk"), [1, 1])


def test_names_that_fit_in_part_are_refused(tmp_path: Path) -> None:
    root = make_images(tmp_path / "images")
    (tmp_path / "names.txt").write_text("cat\nfox\ngnu\n")
    with pytest.raises(UserError, match=r"images: the class 'dog' is none of the 3 class names of .*names\.txt"):
        open_source(SourceConfig(path=str(root), classes=str(tmp_path / "names.txt")))
