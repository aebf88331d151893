"""A tar for each class gives what the image folder gives that all tars are unpacked into."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torchvision.datasets

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources import open_source
from tests.data.convert.sources.samples import contents, contents_in_processes, jpeg, tar_bytes, write_files

CLASSES = [f"n{number:08d}" for number in (7, 3, 90)]


def tar_of(number: int) -> bytes:
    """Images in the order of no alphabet, one of them below a folder, and a file that is none."""
    name = CLASSES[number]
    images = {f"{name}_{image}.JPEG": jpeg(100 * number + image) for image in (30, 4, 100)}
    return tar_bytes({**images, f"more/{name}_5.JPEG": jpeg(100 * number + 5), "notes.txt": b"text"})


def tars() -> dict[str, bytes]:
    return {f"{name}.tar": tar_of(number) for number, name in enumerate(CLASSES)}


def source_files(root: Path, layout: str) -> Path:
    """The source as distributed: a folder of tars, or one tar, compressed or not, that has them in a folder."""
    if layout == "folder":
        return write_files(root, tars())
    whole = tar_bytes(
        {f"whole/{name}": content for name, content in tars().items()}, "w:gz" if layout == "whole.tar.gz" else "w"
    )
    return write_files(root, {layout: whole}) / layout


@pytest.mark.parametrize("layout", ["folder", "whole.tar", "whole.tar.gz"])
def test_gives_what_torchvision_finds_unpacked(tmp_path: Path, layout: str) -> None:
    ours = open_source(SourceConfig(path=str(source_files(tmp_path / "packed", layout)), kind="tars"))
    for number, name in enumerate(CLASSES):
        write_files(tmp_path, {"one.tar": tar_of(number)})
        with tarfile.open(tmp_path / "one.tar") as tar:
            tar.extractall(tmp_path / "unpacked" / name, filter="data")
    theirs = torchvision.datasets.ImageFolder(str(tmp_path / "unpacked"))
    assert list(ours.classes) == theirs.classes
    root = tmp_path / "unpacked"
    assert [(str(root / ours.name(n)), ours.labels[n]) for n in range(ours.num_samples)] == theirs.samples
    assert [ours.read(n) for n in range(ours.num_samples)] == [Path(path).read_bytes() for path, _ in theirs.samples]
    folders = open_source(SourceConfig(path=str(root)))
    assert ours.digest() == folders.digest()
    assert (ours.accounts().num_seen, ours.accounts().left_out) == (folders.accounts().num_seen, folders.accounts().left_out)
    ours.close()


@pytest.mark.parametrize("layout", ["folder", "whole.tar"])
def test_is_read_by_forked_processes_at_once(tmp_path: Path, layout: str) -> None:
    source = open_source(SourceConfig(path=str(source_files(tmp_path, layout)), kind="tars"))
    assert contents_in_processes(source) == [contents(source)] * 3


def test_more_classes_than_16_bits_count(tmp_path: Path) -> None:
    """ImageNet-21k has 21,841; the labels of a source and of a beton are wider than that."""
    names = [f"n{number:08d}" for number in range(70_000)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    write_files(tmp_path / "tars", {f"{names[-1]}.tar": tar_bytes({"a.JPEG": jpeg(1)})})
    source = open_source(SourceConfig(path=str(tmp_path / "tars"), kind="tars", classes=str(tmp_path / "names.txt")))
    assert (len(source.classes), source.labels.tolist()) == (70_000, [69_999])


def test_a_tar_without_images_is_a_class_and_what_lies_beside_is_named(tmp_path: Path) -> None:
    beside = {"n00000004.tar": tar_bytes({}), "readme.txt": b"", "a.JPEG": jpeg(1), "more/b.JPEG": jpeg(2), ".cache/c": b""}
    source = open_source(SourceConfig(path=str(write_files(tmp_path, {**tars(), **beside})), kind="tars"))
    assert source.classes == ("n00000003", "n00000004", "n00000007", "n00000090")
    assert set(source.labels.tolist()) == {0, 2, 3}
    accounts = source.accounts()
    assert {entry.name for entry in accounts.left_out} == {".cache/", "more/", "a.JPEG", "*.txt"}
    assert accounts.num_seen == source.num_samples + accounts.num_left_out


def test_class_names_of_a_folder_of_tars_order_another_source(tmp_path: Path) -> None:
    train = source_files(tmp_path / "train", "folder")
    val = write_files(tmp_path / "val", {f"{CLASSES[2]}/a.JPEG": jpeg(1)})
    source = open_source(SourceConfig(path=str(val), classes=str(train)))
    assert (source.classes, source.labels.tolist()) == (tuple(sorted(CLASSES)), [2])


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({"a/1.JPEG": b""}, "", "has no tars in it: want NAME.tar for each class, or one tar"),
        ({"a.tar": tar_bytes({"1.JPEG": b""})}, "a.tar", "has no tars in it: want the archive as distributed"),
        ({"a.tar": tar_bytes({"x.txt": b""})}, "", "1 tars without images"),
        ({"a.tar": tar_bytes({"1.JPEG": jpeg(1)})[:700]}, "", "a.tar: .*(truncated|damaged)"),
        ({"a.tar": tar_bytes({"1.JPEG": jpeg(1)}, "w:gz")}, "", "a.tar: "),
        ({}, "missing.tar", "missing.tar: cannot be read: No such file"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, files: dict[str, bytes], path: str, message: str) -> None:
    write_files(tmp_path, files)
    with pytest.raises(UserError, match=message) as caught:
        open_source(SourceConfig(path=str(tmp_path / path), kind="tars"))
    assert "\n" not in str(caught.value)


def test_splits_are_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source\.split=val: source\.kind=tars does not use it; give the folder of the split"):
        open_source(SourceConfig(path=str(tmp_path), kind="tars", split="val"))
