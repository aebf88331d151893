"""A copy that is killed at any moment, and called again, gives the bytes of one that was not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from deit_fast.config import MergeConfig, UserError
from deit_fast.data.format.part import Part
from deit_fast.data.regroup import copy
from deit_fast.data.regroup.merge import merge_betons
from tests.data.image_folders import convert, make_images
from tests.scale import scaled

FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "SAMPLES_PER_PART", 4)


@pytest.fixture(scope="module")
def betons(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("betons")
    for name, classes in (("a", {"cat": 150, "dog": 50}), ("b", {"dog": 100, "elk": 100})):
        make_images(folder / name, classes, height=16, width=24)
        convert(folder / name, folder / f"{name}.beton")
    return folder / "a.beton", folder / "b.beton"


def merge(betons: tuple[Path, Path], out: Path) -> None:
    merge_betons(MergeConfig(betons=tuple(map(str, betons)), out=str(out)))


def started(betons: tuple[Path, Path], out: Path) -> int:
    """A process that merges and has finished some parts; it waits before each further one."""

    def slowly() -> None:
        of_part = copy.Copier.part

        def part(copier: copy.Copier, number: int) -> Part:
            time.sleep(0.0 if number < 20 else 0.2)
            return of_part(copier, number)

        copy.Copier.part = part  # type: ignore[method-assign, assignment]
        merge(betons, out)

    process = FORK.Process(target=slowly)
    process.start()
    parts = out.with_name(f"{out.name}.partial.parts")
    while not (parts.exists() and parts.stat().st_size > 60_000):  # a part has 6 kB of histograms
        time.sleep(0.001)
        assert process.is_alive()
    assert process.pid is not None
    return process.pid


def test_killed_in_the_middle(betons: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merge(betons, tmp_path / "whole.beton")
    out = tmp_path / "out.beton"
    pid = started(betons, out)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not out.exists()
    with pytest.raises(UserError, match=r"out\.beton\.partial: cannot be resumed: copy\.betons was"):
        merge((betons[1], betons[0]), out)
    copied = 0
    of_part = copy.Copier.part

    def counted(copier: copy.Copier, number: int) -> Part:
        nonlocal copied
        copied += 1
        return of_part(copier, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy.Copier, "part", counted)
        merge(betons, out)
    assert 0 < copied < 95
    assert out.read_bytes() == (tmp_path / "whole.beton").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.beton", "out.beton.json"]


def test_asked_to_end_it_says_what_is_kept(
    betons: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.beton"
    pid = started(betons, out)
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    error = capfd.readouterr().err
    assert "images" in error and "the same command goes on from there" in error
    assert "deit-fast merge: ended by SIGTERM" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.beton.partial", "out.beton.partial.parts"]
    merge(betons, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.beton", "out.beton.json"]


@pytest.mark.slow
def test_killed_at_random_moments(betons: tuple[Path, Path], tmp_path: Path) -> None:
    """Thirty times, or a share of that: after all thirty the bytes were the same."""
    merge(betons, tmp_path / "whole.beton")
    begun = time.perf_counter()
    merge(betons, tmp_path / "whole.beton")
    seconds = time.perf_counter() - begun
    generator = np.random.Generator(np.random.PCG64(int(time.time())))
    for trial in range(scaled(30, 5)):
        out = tmp_path / f"{trial}.beton"
        for _ in range(2):
            process = FORK.Process(target=merge, args=(betons, out))
            process.start()
            time.sleep(generator.uniform(0, seconds))
            process.kill()
            process.join()
        merge(betons, out)
        assert out.read_bytes() == (tmp_path / "whole.beton").read_bytes()
        assert sorted(path.name for path in tmp_path.glob(f"{trial}.*")) == [out.name, f"{out.name}.json"]
