"""The ILSVRC2012 archives give what torchvision's ImageNet gives after it has unpacked them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets.imagenet
from scipy.io import savemat

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources import open_source
from tests.data.convert.sources.samples import contents, contents_in_processes, jpeg, tar_bytes, write_files

WNIDS = [f"n{number:08d}" for number in (7, 3, 90, 55)]  # in the order of their IDs, which is not the alphabet's
DEVKIT = "ILSVRC2012_devkit_t12"
VAL_IDS = [2, 4, 1, 1, 3, 2, 4]


def devkit() -> bytes:
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "f8")]
    synsets = [(n, wnid, f"word {n}, other {n}", "gloss", 0) for n, wnid in enumerate(WNIDS, 1)]
    synsets.append((5, "n00000001", "above, them", "gloss", 4))
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.array(synsets, dtype=kinds).reshape(-1, 1)})
    truth = "".join(f"{number}\n" for number in VAL_IDS).encode()
    files = {"data/meta.mat": buffer.getvalue(), "data/ILSVRC2012_validation_ground_truth.txt": truth}
    return tar_bytes({f"{DEVKIT}/{name}": content for name, content in files.items()}, "w:gz")


def inner_tar(number: int) -> bytes:
    wnid = WNIDS[number]
    return tar_bytes({f"{wnid}_{image}.JPEG": jpeg(100 * number + image) for image in (30, 4, 100, 5)[: 4 - number % 2]})


def make_archives(root: Path) -> Path:
    val = {f"ILSVRC2012_val_{n:08d}.JPEG": jpeg(1000 + n) for n in (3, 1, 2, 7, 5, 6, 4)}
    train = {f"{wnid}.tar": inner_tar(number) for number, wnid in enumerate(WNIDS)}
    return write_files(
        root,
        {
            "ILSVRC2012_img_train.tar": tar_bytes(train),
            "ILSVRC2012_img_val.tar": tar_bytes(val),
            f"{DEVKIT}.tar.gz": devkit(),
        },
    )


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    return make_archives(tmp_path / "imagenet")


@pytest.mark.parametrize("split", ["train", "val"])
def test_gives_what_torchvision_unpacks(archives: Path, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(archives, tmp_path / "copy")
    monkeypatch.setattr(torchvision.datasets.imagenet, "check_integrity", lambda path, md5=None: Path(path).is_file())
    theirs = torchvision.datasets.ImageNet(str(copy), split)
    ours = open_source(SourceConfig(path=str(archives), kind="imagenet", split=split))  # type: ignore[arg-type]
    assert list(ours.classes) == theirs.wnids == sorted(WNIDS)
    assert [(str(copy / split / ours.name(n)), ours.labels[n]) for n in range(ours.num_samples)] == theirs.samples
    assert [ours.read(n) for n in range(ours.num_samples)] == [Path(path).read_bytes() for path, _ in theirs.samples]

    folders = open_source(SourceConfig(path=str(copy / split)))
    assert ours.digest() == folders.digest()
    assert ours.part_starts().tolist() == folders.part_starts().tolist()


@pytest.mark.parametrize("split", ["train", "val"])
def test_is_read_by_forked_processes_at_once(archives: Path, split: str) -> None:
    source = open_source(SourceConfig(path=str(archives), kind="imagenet", split=split))  # type: ignore[arg-type]
    assert contents_in_processes(source) == [contents(source)] * 3


def test_many_inner_tars_are_listed_by_processes(tmp_path: Path) -> None:
    inner = {f"n{number:08d}.tar": tar_bytes({f"n{number:08d}_1.JPEG": jpeg(number)}) for number in range(40)}
    write_files(tmp_path, {"ILSVRC2012_img_train.tar": tar_bytes(inner)})
    source = open_source(SourceConfig(path=str(tmp_path), kind="imagenet"))
    assert [source.read(n) for n in range(40)] == [jpeg(number) for number in range(40)]


def test_the_devkit_may_be_unpacked_and_train_does_without(archives: Path) -> None:
    with_devkit = open_source(SourceConfig(path=str(archives), kind="imagenet")).digest()
    shutil.unpack_archive(archives / f"{DEVKIT}.tar.gz", archives)
    val = open_source(SourceConfig(path=str(archives), kind="imagenet", split="val")).digest()
    (archives / f"{DEVKIT}.tar.gz").unlink()
    assert open_source(SourceConfig(path=str(archives), kind="imagenet", split="val")).digest() == val
    shutil.rmtree(archives / DEVKIT)
    assert open_source(SourceConfig(path=str(archives), kind="imagenet")).digest() == with_devkit


def rewrite(archives: Path, name: str, change: Callable[[dict[str, bytes]], object]) -> None:
    inner = {f"{wnid}.tar": inner_tar(number) for number, wnid in enumerate(WNIDS)}
    change(inner)
    (archives / name).write_bytes(tar_bytes(inner))


@pytest.mark.parametrize(
    ("split", "damage", "message"),
    [
        ("test", lambda root: None, r"source\.split=test: .* want train or val"),
        ("train", lambda root: (root / "ILSVRC2012_img_train.tar").unlink(), r"img_train\.tar: no such file; want the folder"),
        (
            "val",
            lambda root: (root / f"{DEVKIT}.tar.gz").unlink(),
            r"devkit_t12\.tar\.gz: no such file; want it for the",
        ),
        (
            "train",
            lambda root: rewrite(root, "ILSVRC2012_img_train.tar", lambda inner: inner.pop("n00000055.tar")),
            r"1 of 4 tars are missing, the first is n00000055\.tar",
        ),
        (
            "train",
            lambda root: rewrite(
                root, "ILSVRC2012_img_train.tar", lambda inner: inner.update({"n00000003.tar": inner_tar(1)[:1500]})
            ),
            r"img_train\.tar: n00000003\.tar: .*truncated|damaged",
        ),
        (
            "train",
            lambda root: rewrite(
                root, "ILSVRC2012_img_train.tar", lambda inner: inner.update({"n00000003.tar": tar_bytes({"x.txt": b""})})
            ),
            r"n00000003\.tar: has no images",
        ),
        (
            "train",
            lambda root: (root / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes({"a.JPEG": b""})),
            "has no tars in it",
        ),
        (
            "val",
            lambda root: (root / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes({"a.JPEG": b""})),
            r"img_val\.tar: has 1 images, the devkit 7 labels",
        ),
        (
            "val",
            lambda root: (root / f"{DEVKIT}.tar.gz").write_bytes(tar_bytes({f"{DEVKIT}/data/meta.mat": b"text" * 99})),
            r"meta\.mat: not a MATLAB file",
        ),
        (
            "val",
            lambda root: (root / f"{DEVKIT}.tar.gz").write_bytes(tar_bytes({"readme.txt": b""})),
            r"has 0 files 'data/meta\.mat': want one",
        ),
    ],
)
def test_what_is_wrong_is_named(archives: Path, split: str, damage: Callable[[Path], object], message: str) -> None:
    damage(archives)
    with pytest.raises(UserError, match=message) as error:
        open_source(SourceConfig(path=str(archives), kind="imagenet", split=split))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("images", ["ILSVRC/Data/CLS-LOC", "."])
@pytest.mark.parametrize("with_mapping", [True, False])
def test_kaggles_folders_give_what_the_archives_give(archives: Path, tmp_path: Path, images: str, with_mapping: bool) -> None:
    root = tmp_path / "kaggle"
    ours = {split: open_source(SourceConfig(path=str(archives), kind="imagenet", split=split)) for split in ("train", "val")}
    train, val = ours["train"], ours["val"]
    write_files(root / images / "train", {train.name(n): bytes(train.read(n)) for n in range(train.num_samples)})
    flat = {val.name(n).partition("/")[2]: bytes(val.read(n)) for n in range(val.num_samples)}
    write_files(root / images / "val", {**flat, "notes.txt": b"", "extra.JPEG": b""})
    rows = [f"{val.name(n)[10:-5]},{val.name(n)[:9]} 1 2 30 40 {val.name(n)[:9]} 5 6 7 8" for n in (3, 0, 6, 1, 5, 2, 4)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    if with_mapping:
        (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} word, other\n" for wnid in reversed(train.classes)))
    for split, archive in ours.items():
        kaggle = open_source(SourceConfig(path=str(root), kind="imagenet", split=split))  # type: ignore[arg-type]
        assert kaggle.classes == archive.classes
        assert contents(kaggle) == contents(archive)
        assert kaggle.digest() == archive.digest()
    accounts = kaggle.accounts()
    assert [entry.name for entry in accounts.left_out] == ["extra.JPEG", "notes.txt"]
    assert accounts.num_seen == 9


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "ImageId,PredictionString\nILSVRC2012_val_00000009,n00000007 1 2 3 4\n",
            r"1 of 1 images are missing, the first is .*9\.JPEG",
        ),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,\n", r"LOC_val_solution\.csv: line 2 has no ImageId or no Pred"),
        ("a,b\n", r"LOC_val_solution\.csv: has no rows: want the columns ImageId and PredictionString"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path: Path, table: str, message: str) -> None:
    write_files(tmp_path, {"LOC_val_solution.csv": table.encode(), "val/ILSVRC2012_val_00000001.JPEG": jpeg(1)})
    with pytest.raises(UserError, match=message):
        open_source(SourceConfig(path=str(tmp_path), kind="imagenet", split="val"))
