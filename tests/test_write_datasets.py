"""Each script of write_datasets calls `deit-fast write` for two betons; what is missing is an error of one line."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

from deit_fast.config import SourceConfig
from deit_fast.data.convert.sources import open_source
from tests.data.convert.sources.samples import jpeg, tar_bytes, write_files
from tests.data.convert.sources.test_imagenet import make_archives

FOLDER = Path(__file__).parents[1] / "write_datasets"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("write_*.py"))

# what is there, and path, kind and split that train.beton and val.beton are asked to be made of
LAYOUTS: dict[str, tuple[str, list[str], list[tuple[str, str, str]]]] = {
    "imagenet archives": (
        "write_imagenet",
        ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"],
        [("", "imagenet", "train"), ("", "imagenet", "val")],
    ),
    "imagenet folders": (
        "write_imagenet",
        ["train/a/1.jpg", "val/a/2.jpg"],
        [("/train", "folder", ""), ("/val", "folder", "")],
    ),
    "Kaggle's folders": (
        "write_imagenet",
        ["LOC_val_solution.csv"],
        [("", "imagenet", "train"), ("", "imagenet", "val")],
    ),
    "imagenet-21k's archive": (
        "write_imagenet21k",
        ["fall11_whole.tar", "val/a/1.jpg"],
        [("/fall11_whole.tar", "tars", ""), ("/val", "folder", "")],
    ),
    "parquet": (
        "write_parquet",
        ["data/train-0.parquet", "data/validation-0.parquet", "data/test-0.parquet"],
        [("", "parquet", "train"), ("", "parquet", "val")],
    ),
    "webdataset": (
        "write_webdataset",
        ["train-0.tar", "test-0.tar"],
        [("", "webdataset", "train"), ("", "webdataset", "test")],
    ),
    "cifar10": ("write_cifar", ["cifar-10-python.tar.gz"], [("", "cifar10", "train"), ("", "cifar10", "test")]),
    "cifar100": ("write_cifar", ["cifar-100-python/meta"], [("", "cifar100", "train"), ("", "cifar100", "test")]),
    "flowers102": ("write_flowers102", [], [("", "flowers102", "trainval"), ("", "flowers102", "test")]),
    "cars": ("write_cars", [], [("", "cars", "train"), ("", "cars", "test")]),
    "inat2018": ("write_inaturalist", ["train2018.json"], [("", "inat2018", "train"), ("", "inat2018", "val")]),
    "inat2019": ("write_inaturalist", ["train2019.json.tar.gz"], [("", "inat2019", "train"), ("", "inat2019", "val")]),
}
DEFAULTS = {
    "write_imagenet": ["--write.max_resolution=500", "--write.jpeg_quality=90"],
    "write_imagenet21k": ["--write.max_resolution=500", "--write.jpeg_quality=90"],
    "write_parquet": ["--write.max_resolution=500", "--write.jpeg_quality=90"],
    "write_webdataset": ["--write.max_resolution=500", "--write.jpeg_quality=90"],
    "write_cifar": ["--write.mode=raw"],
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of each call of `deit-fast`, which does nothing here and gives 0."""
    monkeypatch.syspath_prepend(str(FOLDER))
    made: list[list[str]] = []

    def deit_fast(words: list[str]) -> int:
        made.append(words)
        return 0

    monkeypatch.setattr(importlib.import_module("conversion"), "deit_fast", deit_fast)
    return made


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_asks_for_two_betons(tmp_path: Path, calls: list[list[str]], layout: str) -> None:
    name, files, sources = LAYOUTS[layout]
    source, out = write_files(tmp_path / "set", dict.fromkeys(files, b"")), tmp_path / "new" / "betons"
    assert script(name).main([str(source), str(out)]) == 0
    assert calls == [
        [
            "write",
            f"--source.path={source}{path}",
            f"--source.kind={kind}",
            *([f"--source.split={split}"] if split else []),
            f"--write.out={out}/{beton}.beton",
            *DEFAULTS.get(name, []),
        ]
        for beton, (path, kind, split) in zip(("train", "val"), sources, strict=True)
    ]
    assert out.is_dir()


def test_a_tilde_is_the_home(tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert script("write_cars").main(["~/cars", "~/betons"]) == 0
    assert (calls[0][1], calls[0][4]) == (f"--source.path={tmp_path / 'cars'}", f"--write.out={tmp_path}/betons/train.beton")


def test_options_on_the_command_line_come_before_defaults(tmp_path: Path, calls: list[list[str]]) -> None:
    options = ["--write.max_resolution=unlimited", "--source.subset=9", "--source.seed", "3", "--write.mode=smart"]
    write_files(tmp_path, {"train/a/1.jpg": b"", "val/a/1.jpg": b""})
    assert script("write_imagenet").main([str(tmp_path), str(tmp_path / "out"), *options]) == 0
    assert [words[4:] for words in calls] == [["--write.jpeg_quality=90", *options]] * 2


def test_a_validation_set_without_images_of_a_class_gets_the_classes_of_the_training_set(
    tmp_path: Path, calls: list[list[str]]
) -> None:
    write_files(tmp_path, {"train/a/1.jpg": b"", "train/b/1.jpg": b"", "val/b/1.jpg": b""})
    assert script("write_imagenet").main([str(tmp_path), str(tmp_path / "out")]) == 0
    assert [f"--source.classes={tmp_path / 'train'}" in words for words in calls] == [False, True]
    assert script("write_imagenet").main([str(tmp_path), str(tmp_path / "out"), "--source.classes=names.txt"]) == 0
    for words in calls[2:]:
        assert [word for word in words if word.startswith("--source.classes")] == ["--source.classes=names.txt"]


def test_imagenet_21k_in_folders_or_tars_gives_its_classes_to_both(tmp_path: Path, calls: list[list[str]]) -> None:
    source = write_files(tmp_path / "set", {"train/a.tar": b"", "val/a/1.jpg": b""})
    assert script("write_imagenet21k").main([str(source), str(tmp_path / "out")]) == 0
    train, val = ({word for word in words if word.startswith("--source.")} for words in calls)
    assert train == {f"--source.path={source}/train", "--source.kind=tars"}
    assert val == {f"--source.path={source}/val", "--source.kind=folder", f"--source.classes={source}/train"}


def test_ends_with_the_first_failure(tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(words: list[str]) -> int:
        calls.append(words)
        return 7

    monkeypatch.setattr("conversion.deit_fast", fail)
    assert script("write_cars").main([str(tmp_path), str(tmp_path / "out")]) == 7
    assert len(calls) == 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_the_docstring(name: str, calls: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert script(name).main(["--help"]) == 0
    said = capsys.readouterr().out
    assert f"python write_datasets/{name}.py " in said
    assert "OUT/train.beton" in said
    assert "OUT/val.beton" in said
    assert calls == []


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: python write_datasets/"),
        (["--write.mode=raw", "out"], "usage: python write_datasets/"),
        (["set", "out", "--source.path=x"], "--source.path is not an option here"),
        (["set", "out", "--write.out", "x"], "--write.out is not an option here"),
        (["set", "out", "--out=x"], "--out is not an option here"),
    ],
)
def test_wrong_words_are_refused(
    name: str, words: list[str], message: str, calls: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert script(name).main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1
    assert calls == []


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("write_imagenet", [], "has neither the archive ILSVRC2012_img_train.tar nor a folder train/"),
        ("write_imagenet", ["ILSVRC2012_img_train.tar"], "ILSVRC2012_img_val.tar: no such file; want both archives"),
        ("write_imagenet", ["train/a/1.jpg"], "val: no such folder"),
        ("write_imagenet", ["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/c/1.jpg"], "'c' is in val alone"),
        (
            "write_imagenet21k",
            [],
            "has neither winter21_whole.tar.gz, winter21_whole.tar, fall11_whole.tar nor a folder train/",
        ),
        ("write_imagenet21k", ["train/a.tar"], "val: no such folder; want validation images of the same classes"),
        ("write_parquet", ["a.parquet"], "splits told by the names of the shards: none; want train and val"),
        ("write_webdataset", ["train-1.tar"], "splits told by the names of the shards: train; want train and val"),
        ("write_webdataset", [], "no files *.tar "),
        ("write_cifar", [], "has no CIFAR"),
        ("write_inaturalist", [], "neither train2018.json nor train2019.json"),
        ("write_inaturalist", ["train2018.json", "train2019.json"], "both train2018.json and train2019.json"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, name: str, files: list[str], message: str, calls: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, dict.fromkeys(files, b""))
    assert script(name).main([str(tmp_path), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert calls == []
    assert not (tmp_path / "out").exists()


def test_archives_and_the_folders_unpacked_from_them_give_the_same_betons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    archives = make_archives(tmp_path / "archives")
    splits: tuple[Literal["train", "val"], ...] = ("train", "val")
    for split in splits:
        source = open_source(SourceConfig(path=str(archives), kind="imagenet", split=split))
        images = {source.name(sample): bytes(source.read(sample)) for sample in range(source.num_samples)}
        write_files(tmp_path / "folders" / split, images)
    for layout in ("archives", "folders"):
        words = [str(tmp_path / layout), str(tmp_path / f"from_{layout}"), "--write.num_workers=1", "--source.subset=6"]
        assert script("write_imagenet").main(words) == 0
    for name in ("train.beton", "val.beton"):
        content = (tmp_path / "from_archives" / name).read_bytes()
        assert content == (tmp_path / "from_folders" / name).read_bytes()
        assert len(content) > 6 * 300


def test_tars_of_classes_and_the_folders_unpacked_from_them_give_the_same_betons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    images = {name: {f"{name}_{n}.JPEG": jpeg(10 * n + number) for n in range(3)} for number, name in enumerate("ab")}
    for name, of_class in images.items():
        val = dict(list(of_class.items())[:1])
        for split, files in (("train", of_class), ("val", val)):
            write_files(tmp_path / "tars" / split, {f"{name}.tar": tar_bytes(files)})
            write_files(tmp_path / "folders" / split, {f"{name}/{file}": content for file, content in files.items()})
    for layout in ("tars", "folders"):
        assert script("write_imagenet21k").main([str(tmp_path / layout), str(tmp_path / layout), "--write.num_workers=1"]) == 0
    for name in ("train.beton", "val.beton"):
        content = (tmp_path / "tars" / name).read_bytes()
        assert content == (tmp_path / "folders" / name).read_bytes()
        assert len(content) > 2 * 300
