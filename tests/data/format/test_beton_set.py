"""Several betons as one set: columns, classes by name, identity, and what cannot be joined."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format.beton import manifest_path, open_beton
from deit_fast.data.format.beton_set import check_each_once, open_set, set_of
from deit_fast.data.format.identity import files_of, identity
from deit_fast.data.load.decode import images_of
from tests.data.image_folders import convert, make_images
from tests.data.stored import stored_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.beton: ant 3, bee 2; b.beton: bee 1, cow 4; both.beton: of the images of a and of b's under other names."""
    folder = tmp_path_factory.mktemp("betons")
    convert(make_images(folder / "a", {"ant": 3, "bee": 2}), folder / "a.beton")
    convert(make_images(folder / "b", {"bee": 1, "cow": 4}, height=40), folder / "b.beton")
    convert(make_images(folder / "z", {"zoo": 2}), folder / "z.beton")
    convert(make_images(folder / "unsorted", {"cow": 1, "ant": 1}), folder / "unsorted.beton")
    return folder


def _without_manifest(path: Path, out: Path) -> Path:
    shutil.copy(path, out)
    return out


def test_columns_follow_each_other_and_labels_are_of_the_union(folder: Path) -> None:
    both = open_set(f"{folder}/b.beton,{folder}/a.beton*2", "data.train")
    a, b = open_beton(folder / "a.beton"), open_beton(folder / "b.beton")
    assert both.classes == ("ant", "bee", "cow")
    assert both.num_samples == 15
    assert both.labels.tolist() == [1, 2, 2, 2, 2, *[0, 0, 0, 1, 1] * 2]
    for name in ("widths", "heights", "modes", "sizes"):
        wanted = np.concatenate([getattr(b, name), getattr(a, name), getattr(a, name)])
        np.testing.assert_array_equal(getattr(both, name), wanted)
        assert getattr(both, name).dtype == getattr(a, name).dtype
    images = images_of(both)
    for sample, stored in enumerate([*stored_bytes(b.path), *stored_bytes(a.path) * 2]):
        assert images.stored_bytes(sample).tobytes() == stored
    assert both.where(0)[0].path == b.path
    assert both.where(10)[1] == int(a.offsets[0])
    assert both.described(11) == f"sample 11, sample 1 of {a.path}"
    assert set_of(a).described(1) == "sample 1"
    # no image of one file is near one of another on the line
    ends = both.offsets + both.sizes
    assert both.offsets[5] - ends[4] > 1 << 20
    assert both.offsets[10] - ends[9] > 1 << 20


def test_the_order_of_the_union(folder: Path, tmp_path: Path) -> None:
    """Sorted, if the names of each beton are; else as they come."""
    sorted_ones = open_set(f"{folder}/z.beton,{folder}/a.beton", "data.train")
    assert sorted_ones.classes == ("ant", "bee", "zoo")
    assert sorted_ones.labels.tolist() == [2, 2, 0, 0, 0, 1, 1]
    names = tmp_path / "names.txt"
    names.write_text("cow\nant\n")
    source = SourceConfig(path=str(folder / "unsorted"), classes=str(names))
    write_beton(source, WriteConfig(out=str(tmp_path / "cow_ant.beton"), num_workers=1))
    as_they_come = open_set(f"{tmp_path}/cow_ant.beton,{folder}/a.beton", "data.train")
    assert as_they_come.classes == ("cow", "ant", "bee")
    assert as_they_come.labels.tolist() == [1, 0, 1, 1, 1, 2, 2]


def test_without_names(folder: Path, tmp_path: Path) -> None:
    """Labels stay what they are, where all agree."""
    bare = _without_manifest(folder / "a.beton", tmp_path / "bare.beton")
    other = _without_manifest(folder / "b.beton", tmp_path / "other.beton")
    both = open_set(f"{bare},{other}", "data.train")
    assert both.classes is None
    assert (both.labels.tolist(), both.num_classes) == ([0, 0, 0, 1, 1, 0, 1, 1, 1, 1], 2)
    assert open_set(f"{bare},{folder}/a.beton", "data.train").classes == ("ant", "bee")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("bare.beton,a.beton,b.beton", "bare.beton: has no class names, while .*a.beton and .*b.beton have different ones"),
        ("bare.beton,z.beton", r"bare\.beton: has label 1 and no class names, .*z\.beton has 1 classes"),
        ("twice.beton,z.beton", r"twice\.beton: has 2 classes named 'ant', and other classes than .*z\.beton"),
        ("z.beton,missing.beton", r"missing\.beton: no such file"),
    ],
)
def test_what_cannot_be_joined(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str, words: str) -> None:
    for name in ("a", "b", "z"):
        for suffix in ("beton", "beton.json"):
            shutil.copy(folder / f"{name}.{suffix}", tmp_path)
    _without_manifest(folder / "a.beton", tmp_path / "bare.beton")
    twice = _without_manifest(folder / "a.beton", tmp_path / "twice.beton")
    manifest_path(twice).write_text(manifest_path(folder / "a.beton").read_text().replace('"bee"', '"ant"'))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        open_set(names, "data.train")


def test_an_evaluation_takes_no_weights(folder: Path) -> None:
    check_each_once(open_set(f"{folder}/a.beton,{folder}/b.beton", "data.val"), "data.val")
    with pytest.raises(UserError, match=r"data\.val=.*a\.beton\*2: has a weight"):
        check_each_once(open_set(f"{folder}/b.beton,{folder}/a.beton*2", "data.val"), "data.val")


def test_the_identity_covers_files_their_order_and_weights(folder: Path, tmp_path: Path) -> None:
    def of(text: str) -> dict[str, str]:
        return identity(open_set(text, "data.train"), with_places=True)

    a, b = folder / "a.beton", folder / "b.beton"
    found = [of(text) for text in (f"{a},{b}", f"{b},{a}", f"{a}*2,{b}", f"{a},{b}*2", f"{a}", f"{a}*2")]
    assert len({tuple(one.values()) for one in found}) == len(found)
    assert len({one["images"] for one in found}) == len(found)
    moved = tmp_path / "elsewhere.beton"
    shutil.copy(a, moved)
    shutil.copy(manifest_path(a), manifest_path(moved))
    assert of(f"{moved},{b}") == found[0]
    assert of(str(a)) == identity(open_beton(a), with_places=True)


def test_the_record_names_each_file(folder: Path, tmp_path: Path) -> None:
    bare = _without_manifest(folder / "a.beton", tmp_path / "bare.beton")
    first, second = files_of(open_set(f"{folder}/a.beton*3,{bare}", "data.train"))
    assert (first["path"], first["num_images"], first["times"]) == (str(folder / "a.beton"), 5, 3)
    assert len(first["manifest"]) == 64
    assert (second["times"], second["manifest"]) == (1, None)
