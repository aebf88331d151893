"""A conversion that is killed at any moment, and resumed, gives the bytes of one that was not."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from deit_fast.data.convert.parts import PartsFile
from deit_fast.data.convert.sources import base
from tests.data.image_folders import convert, make_images, smooth_image
from tests.data.odd_files import make_odd_files
from tests.scale import scaled

FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 images, and a class of odd files, some of which are skipped."""
    root = tmp_path_factory.mktemp("resume") / "images"
    make_images(root, {"cat": 160, "dog": 160}, height=16, width=24)
    make_odd_files(root)
    return root


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SAMPLES_PER_PART", 8)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, float]:
    """The bytes of an uninterrupted conversion, and the seconds it took."""
    out = tmp_path_factory.mktemp("whole") / "set.beton"
    convert_all(source, out)
    started = time.perf_counter()
    convert_all(source, out)
    return out.read_bytes(), time.perf_counter() - started


def convert_all(source: Path, out: Path) -> None:
    convert(source, out, on_error="skip", resume=True, jpeg_quality=80, num_workers=2)


@pytest.mark.slow
def test_killed_at_random_moments(source: Path, whole: tuple[bytes, float], tmp_path: Path) -> None:
    """Ten times, or a share of that: after all ten the bytes were the same."""
    content, seconds = whole
    num_trials = scaled(10, 2)
    generator = np.random.Generator(np.random.PCG64(int(time.time())))
    num_killed = num_resumed = 0
    for trial in range(num_trials):
        out = tmp_path / f"{trial}.beton"
        for _ in range(2):  # the second may be killed while it looks through what the first has finished
            process = FORK.Process(target=convert_all, args=(source, out))
            process.start()
            time.sleep(generator.uniform(0, seconds))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            num_killed += process.exitcode == -signal.SIGKILL
            num_resumed += out.with_name(f"{out.name}.partial").exists()
        convert_all(source, out)
        assert out.read_bytes() == content
        assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, f"{out.name}.json"]
        out.unlink()
        out.with_name(f"{out.name}.json").unlink()
    assert num_killed >= num_trials
    assert num_resumed >= num_trials // 2


def interrupted(source: Path, out: Path) -> None:
    """Leaves what a conversion leaves that is ended after some of its parts."""
    process = FORK.Process(target=convert_all, args=(source, out))
    process.start()
    parts = out.with_name(f"{out.name}.partial.parts")
    while not (parts.exists() and parts.stat().st_size > 100_000):  # a part has 6 kB of histograms
        time.sleep(0.001)
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("damage", ["torn record", "flipped record", "flipped image", "images lost"])
def test_what_is_damaged_is_done_again(source: Path, whole: tuple[bytes, float], tmp_path: Path, damage: str) -> None:
    out = tmp_path / "set.beton"
    interrupted(source, out)
    images, parts = tmp_path / "set.beton.partial", tmp_path / "set.beton.partial.parts"
    with parts.open("r+b") as record, images.open("r+b") as stored:
        if damage == "torn record":
            record.truncate(parts.stat().st_size - 1000)
        elif damage == "flipped record":
            record.seek(50_000)
            byte = record.read(1)[0]
            record.seek(50_000)
            record.write(bytes([byte ^ 1]))
        elif damage == "flipped image":
            finished = PartsFile.reopen(parts)
            assert finished is not None
            row = list(finished)[3].rows[2]
            finished.close()
            stored.seek(int(row["offset"]) + 5)
            stored.write(b"\x55\xaa")
        else:
            stored.truncate(20_000)
    convert_all(source, out)
    assert out.read_bytes() == whole[0]


@pytest.mark.slow
def test_resume_where_there_is_nothing_starts_anew(source: Path, whole: tuple[bytes, float], tmp_path: Path) -> None:
    (tmp_path / "set.beton.partial.parts").write_bytes(b"deit_fast parts 1\n")  # killed while it began
    (tmp_path / "set.beton.partial").touch()
    convert_all(source, tmp_path / "set.beton")
    assert (tmp_path / "set.beton").read_bytes() == whole[0]


def test_killed_between_the_two_names(source: Path, whole: tuple[bytes, float], tmp_path: Path) -> None:
    out = tmp_path / "set.beton"

    def killed(source: Path, out: Path) -> None:
        replace = Path.replace

        def replace_once(self: Path, target: Path) -> Path:
            replace(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
            return target

        Path.replace = replace_once  # type: ignore[method-assign, assignment]
        convert_all(source, out)

    process = FORK.Process(target=killed, args=(source, out))
    process.start()
    process.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "set.beton", "set.beton.partial.json", "set.beton.partial.parts"
    ]  # fmt: skip
    for options in ({"resume": True, "jpeg_quality": 80}, {"resume": True}, {}):  # to be resumed; others; and anew
        again = tmp_path / "again"
        shutil.copytree(tmp_path, again)
        manifest = convert(source, again / "set.beton", on_error="skip", **options)
        assert manifest["settings"]["jpeg_quality"] == options.get("jpeg_quality", 90)
        assert ((again / "set.beton").read_bytes() == whole[0]) == ("jpeg_quality" in options)
        assert sorted(path.name for path in again.iterdir()) == ["set.beton", "set.beton.json"]
        shutil.rmtree(again)


def test_settings_of_a_version_without_words_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "set.beton.partial.parts"
    PartsFile(path, {"write": {"max_resolution": 0, "mode": "raw"}, "versions": {"ffcv": "1"}}).close()
    parts = PartsFile.reopen(path)
    assert parts is not None
    assert parts.settings == {"write": {"max_resolution": None, "mode": "raw"}, "versions": {"ffcv": "1"}}
    parts.close()


def test_another_source_is_not_gone_on_with(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.beton"
    interrupted(source, out)
    other = make_images(tmp_path / "images")
    np.save(tmp_path / "x.npy", smooth_image(0))
    with pytest.raises(ValueError, match=r"set\.beton\.partial: cannot be resumed: source\.digest was '"):
        convert_all(other, out)


def test_a_record_without_its_images_is_started_anew(source: Path, whole: tuple[bytes, float], tmp_path: Path) -> None:
    out = tmp_path / "set.beton"
    interrupted(source, out)
    (tmp_path / "set.beton.partial").unlink()
    convert(source, out, on_error="skip", jpeg_quality=80)
    assert out.read_bytes() == whole[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.beton", "set.beton.json"]


def test_what_an_unrecorded_part_left_does_not_show(source: Path, whole: tuple[bytes, float], tmp_path: Path) -> None:
    (tmp_path / "set.beton.partial").write_bytes(b"\x55" * 3_000_000)  # killed before the first record
    convert_all(source, tmp_path / "set.beton")
    assert (tmp_path / "set.beton").read_bytes() == whole[0]
