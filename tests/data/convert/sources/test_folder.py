"""Image folders list what torchvision lists; what is not one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder as TorchvisionImageFolder

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources import open_source
from deit_fast.data.format.beton import open_beton
from tests.data.convert.sources.samples import contents, contents_in_processes, write_files
from tests.data.image_folders import convert, make_images


def test_lists_what_torchvision_lists(tmp_path: Path) -> None:
    root = make_images(tmp_path / "images")
    names = ["cat/UPPER.JPG", "cat/deeper/still/one.webp", "cat/deeper/two.TIFF", "dog/.hidden.bmp", "elk/a b.pgm"]
    names += [f"dog/{folder}/image.ppm" for folder in "mzbya"]  # in no order that a file system would list by itself
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("cat/notes.txt", "cat/scan.heic", "readme.png", "dog/jpg"):
        (root / name).touch()
    (root / "elk" / "linked").symlink_to(root / "dog", target_is_directory=True)

    ours, theirs = open_source(SourceConfig(path=str(root))), TorchvisionImageFolder(str(root))
    assert list(ours.classes) == theirs.classes
    samples = [(str(root / ours.name(n)), int(ours.labels[n])) for n in range(ours.num_samples)]
    assert samples == theirs.samples
    assert len(samples) == 12 + 10 + 10
    assert [ours.read(n) for n in range(32)] == [Path(path).read_bytes() for path, _ in theirs.samples]


def test_what_pillow_reads_beyond_torchvisions_list_is_an_image(tmp_path: Path) -> None:
    write_files(tmp_path, {"cat/a.jfif": b"a", "cat/b.GIF": b"b", "cat/c.avif": b"c"})
    source = open_source(SourceConfig(path=str(tmp_path)))
    assert [source.name(n) for n in range(source.num_samples)] == ["cat/a.jfif", "cat/b.GIF", "cat/c.avif"]


@pytest.mark.slow
def test_an_empty_class_folder_is_a_class_without_images(tmp_path: Path) -> None:
    root = make_images(tmp_path / "images", {"ant": 0, "cat": 2, "dog": 0, "elk": 1})
    manifest = convert(root, tmp_path / "set.beton")
    assert manifest["classes"] == ["ant", "cat", "dog", "elk"]
    assert manifest["images_per_class"] == [0, 2, 0, 1]
    assert open_beton(tmp_path / "set.beton").labels.tolist() == [1, 1, 3]


def test_hidden_and_system_folders_are_left_out_and_circles_end(tmp_path: Path) -> None:
    root = make_images(tmp_path / "images", {"cat": 2, "dog": 1})
    hidden = {
        "cat/.ipynb_checkpoints/a.png": b"",
        "cat/@eaDir/b.png": b"",
        "cat/@eaDir/c.txt": b"",
        ".cache/d/e.png": b"",
        "dog/._0000.png": b"",
    }
    write_files(root, hidden)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "cat" / "root").symlink_to(root)
    (root / "all").symlink_to(root)
    (root / "dog" / "loop.png").symlink_to(root / "dog" / "loop.png")
    source = open_source(SourceConfig(path=str(root)))
    assert source.classes == ("cat", "dog")
    assert [source.name(n) for n in range(4)] == ["cat/0000.png", "cat/0001.png", "dog/0000.png", "dog/loop.png"]
    assert [(entry.name, entry.num_files) for entry in source.accounts().left_out] == [
        (".cache/", 1), ("all", 1), ("cat/.ipynb_checkpoints/", 1), ("cat/@eaDir/", 2), ("cat/root", 1), ("cat/self", 1),
        ("dog/._0000.png", 1),
    ]  # fmt: skip
    with pytest.raises(OSError, match="symbolic links"):
        source.read(3)


@pytest.mark.parametrize("names", [("train", "val"), ("Test", "cat")])
def test_class_folders_that_are_named_like_splits_bring_a_warning(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = make_images(tmp_path / "images", dict.fromkeys(names, 1))
    [warning] = open_source(SourceConfig(path=str(root))).accounts().warnings
    assert f"has class folders named {'train, val' if 'val' in names else 'Test'}," in warning
    assert f"--source.path={root / names[0]}" in warning


def test_is_read_by_forked_processes_at_once(tmp_path: Path) -> None:
    source = open_source(SourceConfig(path=str(make_images(tmp_path / "images"))))
    assert contents_in_processes(source) == [contents(source)] * 3


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.touch(), "is not a folder"),
        (lambda root: root.mkdir(), "has no class folders"),
        (lambda root: (root / "cat").mkdir(parents=True), r"images: class folders without images; want"),
    ],
    ids=["missing", "file", "empty", "empty class"],
)
def test_refuses_what_is_no_image_folder(tmp_path: Path, prepare: Callable[[Path], None], message: str) -> None:
    prepare(tmp_path / "images")
    with pytest.raises(UserError, match=message) as error:
        open_source(SourceConfig(path=str(tmp_path / "images")))
    assert "\n" not in str(error.value)
    assert str(tmp_path / "images") in str(error.value)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    root = make_images(tmp_path / "images")
    source = open_source(SourceConfig(path=str(root)))
    (root / source.name(3)).unlink()
    with pytest.raises(OSError, match=r"0003\.png"):
        source.read(3)
