"""Writing shards: the images of one beton, split; by one machine or by several; whatever ends the conversion in between."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deit_fast.config import UserError, VerifyConfig, WriteConfig
from deit_fast.data.convert.partial import PartialBeton
from deit_fast.data.convert.sources import base
from deit_fast.data.examine.verify import check_beton, verify_beton
from deit_fast.data.format import layout
from deit_fast.data.format.beton import open_beton, read_manifest
from deit_fast.data.format.beton_set import open_set
from deit_fast.data.format.identity import identity
from deit_fast.data.load.decode import images_of
from tests.data.image_folders import convert, make_images, make_images_with_bad_ones
from tests.scale import scaled

FORK = multiprocessing.get_context("fork")
OPTIONS: dict[str, Any] = {"mode": "proportion", "seed": 1, "on_error": "skip"}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True, scope="module")
def _small_parts_and_pages() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "SAMPLES_PER_PART", 4)
        patch.setattr(layout, "PAGE_BYTES", 1 << 14)  # so that images change places at its end
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 images of three classes, and three files that are skipped."""
    root = make_images_with_bad_ones(tmp_path_factory.mktemp("source") / "images")
    for number, name in enumerate(("cat", "dog", "elk")):
        extra = make_images(root.parent / f"extra{number}", {name: 11}, 20 + 9 * number, 50)
        for path in (extra / name).iterdir():
            shutil.copy(path, root / name / f"extra{path.name}")
    return root


@pytest.fixture(scope="module")
def one(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "set.beton"
    convert(source, out, **OPTIONS)
    return out


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images in five shards."""
    folder = tmp_path_factory.mktemp("shards")
    convert(source, folder / "set.beton", shards=5, num_workers=2, **OPTIONS)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def betons_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.beton"))}


def test_shards_hold_the_images_of_one_beton(one: Path, folder: Path) -> None:
    names = [f"set-0000{number}-of-00005.beton" for number in range(5)]
    assert names_in(folder) == sorted([*names, *(f"{name}.json" for name in names)])
    whole, shards = images_of(open_beton(one)), images_of(open_set(f"{folder}/set-*.beton", "data.train"))
    assert [stretch.path.name for stretch in shards.beton.stretches] == names
    assert shards.beton.classes == whole.beton.classes
    for name in ("labels", "widths", "heights", "modes", "sizes"):
        np.testing.assert_array_equal(getattr(shards.beton, name), getattr(whole.beton, name))
    for sample in range(whole.beton.num_samples):
        assert shards.stored_bytes(sample).tobytes() == whole.stored_bytes(sample).tobytes()
    assert 0 < np.count_nonzero(whole.beton.modes) < 45
    # also for the order by pages, which depends on where images lie
    assert (np.diff(whole.beton.offsets.astype(np.int64)) < 0).any()
    assert shards.beton.places is not None
    np.testing.assert_array_equal(shards.beton.places, whole.beton.offsets)
    for with_places in (False, True):
        assert identity(shards.beton, with_places=with_places) == identity(whole.beton, with_places=with_places)


def test_each_shard_is_whole_by_itself(source: Path, one: Path, folder: Path) -> None:
    manifests = [read_manifest(path) for path in sorted(folder.glob("*.beton"))]
    whole = read_manifest(one)
    assert whole is not None
    assert "shard" not in whole
    for number, manifest in enumerate(manifests):
        assert manifest is not None
        assert manifest["classes"] == whole["classes"]
        files = manifest["files"]
        assert files["seen"] == files["written"] + files["skipped"] + files["other_shards"]
        assert manifest["shard"]["number"] == number
    for name in ("num_samples", "num_jpeg", "num_raw", "num_exact", "num_tiles"):
        assert sum(manifest[name] for manifest in manifests if manifest) == whole[name]
    assert sum(manifest["pixel_values"]["num_images"] for manifest in manifests if manifest) == 45
    found = verify_beton(VerifyConfig(beton=f"{folder}/*.beton", against=str(source), num_workers=1))
    assert sum(result["compared"]["converted_again"] for result in found["betons"]) == 45


def test_a_shard_beside_others_than_its_own_lies_where_it_lies(folder: Path, tmp_path: Path) -> None:
    """Places of one beton hold only for all shards of one conversion, in their order."""
    first, second, *others = sorted(folder.glob("*.beton"))
    bare = tmp_path / first.name
    shutil.copy(first, bare)
    for texts in ([first, second], [second, first, *others], [f"{first}*2", second, *others], [bare, second, *others]):
        assert open_set(",".join(map(str, texts)), "data.train").places is None
    whole = open_set(",".join(map(str, [first, second, *others])), "data.train")
    assert whole.places is not None
    assert not np.array_equal(whole.places, whole.offsets)
    assert open_set(str(first), "data.train").places is None


def test_shards_that_are_missing_or_too_many_are_told(source: Path, folder: Path, tmp_path: Path) -> None:
    first, second, *others = sorted(folder.glob("*.beton"))
    assert open_set(f"{folder}/*.beton", "data.train").remarks == []
    (line,) = open_set(",".join(map(str, [first, *others])), "data.train").remarks
    assert "has 4 of the 5 shards of a conversion; the first that is missing is number 1" in line
    convert(source, tmp_path / "set.beton", shards=2, **OPTIONS)
    with pytest.raises(
        UserError, match=r"00-of-00002\.beton: is shard 0 of 2, .*00-of-00005\.beton is shard 0 of 5 of the same"
    ):
        open_set(f"{folder}/*.beton,{tmp_path}/*.beton", "data.train")
    for suffix in ("", ".json"):
        shutil.copy(f"{second}{suffix}", f"{tmp_path}/copy.beton{suffix}")
    with pytest.raises(UserError, match=r"copy\.beton: is shard 1 of 5, .*01-of-00005\.beton is shard 1 of 5 of the same"):
        open_set(f"{folder}/*.beton,{tmp_path}/copy.beton", "data.train")


@pytest.mark.parametrize("order", [range(5), (3, 0, 4, 2, 1)])
def test_several_machines_write_what_one_writes(source: Path, folder: Path, tmp_path: Path, order: Any) -> None:
    for number in order:
        manifests = convert(source, tmp_path / "set.beton", only=f"{number}/5", **OPTIONS)["shards"]
        assert [manifest["shard"]["number"] for manifest in manifests] == [number]
    assert betons_in(tmp_path) == betons_in(folder)


def test_shards_by_their_size(source: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Estimated from the same images anywhere, so that each machine finds the same number."""
    num_bytes = sum(path.stat().st_size for path in folder.glob("*.beton"))
    convert(source, tmp_path / "set", shard_gb=num_bytes / 3.5e9, num_workers=2, **OPTIONS)
    count = len(betons_in(tmp_path))
    assert 3 <= count <= 5
    said = capsys.readouterr().out
    assert re.search(rf"{count} of {count} shards: 45 images, .* 0 repaired, 3 skipped", said)
    assert f"--data.train='{tmp_path}/set-*-of-0000{count}.beton'" in said
    (tmp_path / "again").mkdir()
    convert(source, tmp_path / "again" / "set", shard_gb=num_bytes / 3.5e9, only=f"1/{count}", **OPTIONS)
    name = f"set-00001-of-0000{count}.beton"
    assert betons_in(tmp_path / "again") == {name: betons_in(tmp_path)[name]}
    with pytest.raises(UserError, match=rf"write\.only=1/99: write\.shard_gb=\S+ gives {count} shards"):
        convert(source, tmp_path / "set", shard_gb=num_bytes / 3.5e9, only="1/99", **OPTIONS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shards": 13}, r"write\.shards=13: want at most 12, since images are converted in 12 parts"),
        ({"shards": 2, "shard_gb": 1.0}, r"write\.shards=2, write\.shard_gb=1: want one of them"),
        ({"shards": 2, "only": "0/3"}, r"write\.only=0/3: write\.shards=2; want the same"),
        ({"only": "3/3"}, r"write\.only=3/3: want 0/3 to 2/3"),
        ({"only": "3"}, r"write\.only=3: want NUMBER/SHARDS, such as 3/16, or all"),
    ],
)
def test_what_is_refused(source: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        convert(source, tmp_path / "set.beton", **options, on_error="skip")
    assert not names_in(tmp_path)


def test_resuming_keeps_what_is_finished(source: Path, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    lost, changed = (tmp_path / f"set-0000{number}-of-00005.beton" for number in (1, 3))
    lost.unlink()
    changed.write_bytes(changed.read_bytes()[:-8])  # cut, while it was copied perhaps
    others = {path: path.stat().st_ino for path in tmp_path.glob("*.beton") if path != changed}
    convert(source, tmp_path / "set.beton", shards=5, resume=True, **OPTIONS)
    assert betons_in(tmp_path) == betons_in(folder)
    assert {path: path.stat().st_ino for path in others} == others
    # of other settings, nothing is kept
    manifests = convert(source, tmp_path / "set.beton", shards=5, resume=True, **{**OPTIONS, "mode": "raw"})["shards"]
    assert all(manifest["num_jpeg"] == 0 for manifest in manifests)


def test_what_is_unfinished_is_refused_before_any_work(source: Path, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    last = tmp_path / "set-00004-of-00005.beton"

    def end(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PartialBeton, "finish", end)
        convert(source, tmp_path / "set.beton", only="4/5", **OPTIONS)
    assert f"{last.name}.partial" in names_in(tmp_path)
    before = {path: path.stat().st_ino for path in tmp_path.glob("*.beton")}
    with pytest.raises(UserError, match=r"set-00004-of-00005\.beton\.partial: is what an interrupted conversion has finished"):
        convert(source, tmp_path / "set.beton", shards=5, **OPTIONS)
    assert {path: path.stat().st_ino for path in before} == before
    last.unlink()
    convert(source, tmp_path / "set.beton", only="4/5", resume=True, **OPTIONS)
    assert betons_in(tmp_path) == betons_in(folder)


def test_several_machines_write_at_once(source: Path, folder: Path, tmp_path: Path) -> None:
    processes = [
        FORK.Process(target=convert, args=(source, tmp_path / "set.beton"), kwargs={"only": f"{number}/5", **OPTIONS})
        for number in range(5)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert betons_in(tmp_path) == betons_in(folder)
    assert names_in(tmp_path) == names_in(folder)


@pytest.mark.slow
def test_killed_at_random_moments(source: Path, folder: Path, tmp_path: Path) -> None:
    """Twenty times, or a share of that: in the end the bytes are the same, and nothing is left besides."""
    options = {"shards": 5, "resume": True, "num_workers": 2, **OPTIONS}
    convert(source, tmp_path / "first.beton", **options)  # which may compile
    started = time.perf_counter()
    convert(source, tmp_path / "set.beton", **options)
    seconds = time.perf_counter() - started
    generator = np.random.Generator(np.random.PCG64(int(time.time())))
    num_killed = 0
    for _ in range(scaled(20, 4)):
        for path in tmp_path.iterdir():
            path.unlink()
        for _ in range(3):
            process = FORK.Process(target=convert, args=(source, tmp_path / "set.beton"), kwargs=options)
            process.start()
            time.sleep(generator.uniform(0, seconds))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            num_killed += process.exitcode == -signal.SIGKILL
        convert(source, tmp_path / "set.beton", **options)
        assert betons_in(tmp_path) == betons_in(folder)
        assert names_in(tmp_path) == names_in(folder)
    assert num_killed > 0


def test_a_manifest_of_another_beton_is_refused(folder: Path, tmp_path: Path) -> None:
    first, second, *_ = sorted(folder.glob("*.beton"))
    shutil.copy(first, tmp_path / "a.beton")
    manifest = json.loads(Path(f"{first}.json").read_text())
    manifest["shard"]["part_sizes"][0] += 1
    (tmp_path / "a.beton.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"samples in the parts of its shard, a\.beton has"):
        open_beton(tmp_path / "a.beton")
    manifest["shard"] = {"number": 3}
    (tmp_path / "a.beton.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="its entry `shard` is none of ours"):
        open_beton(tmp_path / "a.beton")
    assert check_beton(VerifyConfig(beton=str(second), num_workers=1))["problems"] == []
    assert WriteConfig().only == ""
