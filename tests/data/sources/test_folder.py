"""Image folders list what torchvision lists; what is not one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder as TorchvisionImageFolder

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.sources import open_source
from tests.data.image_folders import make_images
from tests.data.sources.samples import contents, contents_in_processes


def test_lists_what_torchvision_lists(tmp_path: Path) -> None:
    root = make_images(tmp_path / "images")
    names = ["cat/UPPER.JPG", "cat/deeper/still/one.webp", "cat/deeper/two.TIFF", "dog/.hidden.bmp", "elk/a b.pgm"]
    names += [f"dog/{folder}/image.ppm" for folder in "mzbya"]  # in no order that a file system would list by itself
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name in ("cat/notes.txt", "cat/animation.gif", "readme.png", "dog/jpg"):
        (root / name).touch()
    (root / "elk" / "linked").symlink_to(root / "dog", target_is_directory=True)

    ours, theirs = open_source(SourceConfig(path=str(root))), TorchvisionImageFolder(str(root))
    assert list(ours.classes) == theirs.classes
    samples = [(str(root / ours.name(n)), int(ours.labels[n])) for n in range(ours.num_samples)]
    assert samples == theirs.samples
    assert len(samples) == 12 + 10 + 10
    assert [ours.read(n) for n in range(32)] == [Path(path).read_bytes() for path, _ in theirs.samples]


def test_is_read_by_forked_processes_at_once(tmp_path: Path) -> None:
    source = open_source(SourceConfig(path=str(make_images(tmp_path / "images"))))
    assert contents_in_processes(source) == [contents(source)] * 3


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.touch(), "is not a folder"),
        (lambda root: root.mkdir(), "has no class folders"),
        (lambda root: (root / "cat").mkdir(parents=True), r"cat: class folder without images; want"),
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
