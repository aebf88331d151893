"""Every file of a source is an image, a part of a sample, or left out by name: random folders and tars, and a conversion."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.accounts import Accounts
from deit_fast.data.convert.sources.tar_listing import NOWHERE, list_tar
from deit_fast.data.convert.write import write_beton
from tests.data.convert.sources.samples import write_files
from tests.data.image_folders import make_images
from tests.scale import scaled

FOLDERS = ("cat", "dog", "cat/deep", "dog/v1.0", ".hidden", "@eaDir", "")
NAMES = ("1", "2", "photo.v1", "photo.v2", ".h", "._1", "a b")
ENDINGS = (".jpg", ".PNG", ".cls", ".json", ".txt", ".seg.png", ".heic", "")
NUM_RANDOM = int(os.environ.get("NUM_TREES", "1000"))


def random_tree(seed: int) -> dict[str, str | None]:
    """Paths with None for a file, else with where a symbolic link leads; no path lies below another that is no folder."""
    rng = np.random.default_rng(seed)

    def pick(choices: tuple[str, ...]) -> str:
        return choices[rng.integers(len(choices))]

    tree: dict[str, str | None] = {"cat/always.jpg": None, "cat/always.cls": None}
    for _ in range(rng.integers(0, 8)):
        tree[os.path.join(pick(FOLDERS), pick(NAMES) + pick(ENDINGS))] = None  # noqa: PTH118
    for _ in range(rng.integers(0, 3)):
        target = pick((*tree, *FOLDERS, "gone", "cat", "."))
        path = os.path.join(pick(("cat", "dog", "")), pick(("link", "other", "1.jpg")))  # noqa: PTH118
        tree.setdefault(path, os.path.relpath(target or ".", os.path.dirname(path) or "."))  # noqa: PTH120
    return {path: target for path, target in tree.items() if not any(other.startswith(f"{path}/") for other in tree)}


def make_tree(root: Path, tree: dict[str, str | None]) -> None:
    for path, target in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if target is None:
            (root / path).write_bytes(b"1")
        else:
            (root / path).symlink_to(target)


def tar_of(tree: dict[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, target in tree.items():
            member = tarfile.TarInfo(path)
            if target is None:
                member.size = 1
            else:
                member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member, io.BytesIO(b"1"))
    return buffer.getvalue()


def walked(root: Path, folder: Path, above: tuple[str, ...] = ()) -> list[str]:
    """Every path below a folder that is no folder, in all the ways that links give without a circle; circles as one path."""
    real = os.path.realpath(folder)
    if real in above:
        return [str(folder.relative_to(root))]
    found = []
    for name in os.listdir(folder):  # noqa: PTH208
        path = folder / name
        if not os.path.isdir(path):  # noqa: PTH112
            found.append(str(path.relative_to(root)))
        else:
            found += walked(root, path, (*above, real))
    return found


def check(accounts: Accounts, num_samples: int, num_files: int) -> None:
    assert accounts.num_seen == num_files
    assert accounts.num_seen == num_samples + accounts.num_parts + accounts.num_left_out
    assert all(entry.name and entry.reason for entry in accounts.left_out)


def check_tree(root: Path, seed: int) -> tuple[int, int]:
    """Checks a tree as a folder, as a tar, and as a shard; gives whether folder and shard were sources."""
    tree = random_tree(seed)
    make_tree(root, tree)
    num_files = sum(len(files) for _, _, files in os.walk(root))
    with tarfile.open(fileobj=io.BytesIO(content := tar_of(tree))) as tar:
        assert len([member for member in tar if not member.isdir()]) == len(tree)
    shard = root.with_suffix(".tar")
    shard.write_bytes(content)
    with shard.open("rb") as file:
        listing = list_tar(file.fileno(), 0, len(content), str(shard))
    everywhere = sorted(walked(root, root))
    assert sorted([*listing.names, *listing.circles]) == everywhere
    for name, offset, _ in listing:  # the bytes are there exactly where unpacking gives a file
        assert (offset != NOWHERE) == (root / name).is_file()
    is_folder = is_shard = 0
    if not any(target is not None for target in tree.values()):
        source = open_source(SourceConfig(path=str(root)))
        check(source.accounts(), source.num_samples, num_files)
        is_folder = 1
    else:
        source = open_source(SourceConfig(path=str(root)))
        accounts = source.accounts()
        check(accounts, source.num_samples, accounts.num_seen)
        names = {source.name(n) for n in range(source.num_samples)}
        assert names == {name for name in everywhere if _is_image_in_class(name)} - _circles(root, everywhere)
    try:
        shards = open_source(SourceConfig(path=str(shard), kind="webdataset"))
    except UserError as error:  # by name: an image without a label, two images for one label
        assert shard.name in str(error)
        return is_folder, is_shard
    check(shards.accounts(), shards.num_samples, len(everywhere))
    shards.close()
    return is_folder, 1


def _is_image_in_class(name: str) -> bool:
    folders, base = name.split("/")[:-1], name.rpartition("/")[2]
    if not folders or any(folder.startswith(".") or folder == "@eaDir" for folder in folders):
        return False
    return base.lower().endswith((".jpg", ".png")) and not base.startswith("._")


def _circles(root: Path, names: list[str]) -> set[str]:
    return {name for name in names if (root / name).is_dir()}


@given(st.integers(0, 2**32))
@settings(max_examples=scaled(60, 20), deadline=None)
def test_each_file_of_a_random_tree_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    check_tree(tmp_path_factory.mktemp("tree") / "root", seed)


@pytest.mark.slow
def test_each_file_of_many_trees_is_accounted_for(tmp_path: Path) -> None:
    sources = np.array([check_tree(tmp_path / str(seed), seed) for seed in range(NUM_RANDOM)])
    assert (sources.sum(axis=0) > NUM_RANDOM // 10).all(), "most trees were no sources"


def test_a_conversion_says_what_became_of_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_images(tmp_path / "images", {"cat": 3, "dog": 2})
    extra = {"cat/bad.jpg": b"no image", "cat/a.xml": b"", "dog/b.xml": b"", "readme.png": b"", "dog/.x/1.png": b""}
    write_files(root, extra)
    num_files = sum(len(files) for _, _, files in os.walk(root))
    source = SourceConfig(path=str(root), subset=5)
    manifest = write_beton(source, WriteConfig(out=str(tmp_path / "a.beton"), num_workers=1, on_error="skip"))
    files = manifest["files"]
    assert files["seen"] == num_files == 10
    assert files["seen"] == files["written"] + files["parts"] + files["not_chosen"] + files["skipped"]
    assert files["written"] == manifest["num_samples"]
    assert files["not_chosen"] == 1
    assert [(entry["name"], entry["num_files"]) for entry in files["left_out"]] == [
        ("readme.png", 1), ("dog/.x/", 1), ("*.xml", 2)
    ]  # fmt: skip
    assert "10 files seen: " in (printed := capsys.readouterr().out)
    assert "by name in the manifest; the first is readme.png (an image in no class folder)" in printed
