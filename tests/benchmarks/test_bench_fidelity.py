"""Differences from Pillow and timm: all rows are there and met, the page repeats, and what is wrong is caught."""

from __future__ import annotations

import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deit_fast.__main__ import main
from deit_fast.benchmarks.fidelity import batches, operations
from deit_fast.benchmarks.fidelity import bench as bench_fidelity
from deit_fast.benchmarks.fidelity.global_generators import seeded
from deit_fast.benchmarks.fidelity.material import Row, random_material, source_material
from deit_fast.config import SourceConfig
from deit_fast.kernels import levels, mix
from deit_fast.kernels.operation_table import CODES, IN_POLICIES, LEVEL_FUNCTIONS, NOTHING
from tests.data.image_folders import make_images, smooth_image

COUNT = 8


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def only(monkeypatch: pytest.MonkeyPatch, rows: tuple[Row, ...], *names: str) -> None:
    """The command compares these rows alone."""
    chosen = tuple(row for row in rows if row.name in names)
    assert len(chosen) == len(names)
    monkeypatch.setattr(bench_fidelity, "SECTIONS", (bench_fidelity.Section("Some", chosen),))


@pytest.mark.slow
def test_every_row_is_in_table_page_and_json(tmp_path: Path, scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "fidelity.json", tmp_path / "fidelity.md"
    assert main(["bench", "fidelity", f"--bench.images={COUNT}", f"--bench.markdown={page}", f"--out={out}"]) == 0
    printed, text = capsys.readouterr().out, page.read_text()
    result = json.loads(out.read_text())
    assert result["kind"] == "fidelity"
    assert "hardware" in result
    for section, measured in zip(bench_fidelity.SECTIONS, result["sections"], strict=True):
        assert f"## {section.title}\n" in text
        assert [row["operation"] for row in measured["rows"]] == [row.name for row in section.rows]
        for row in measured["rows"]:
            assert row["is_met"]
            if "lack" in row:
                assert f"\n| {row['operation']} | {row['reference']} | – | – | – | – | not measured: {row['lack']} |" in text
                assert "CUDA" in row["lack"]
                continue
            assert f"\n| {row['operation']} | {row['reference']} | {row['num_views']:,} |" in text
            assert row["operation"] in printed
            if "DCT" not in row["operation"]:
                assert row["num_views"] in (COUNT, 3 * COUNT)
            if row["max_wanted"] is not None:
                assert row["max"] <= row["max_wanted"]
    assert f"\ndeit-fast bench fidelity --bench.images={COUNT} --bench.markdown={page}\n" in text
    assert "Pillow's libjpeg-turbo" in result["versions"]
    assert not list(scratch.iterdir())


def test_the_same_seed_gives_the_same_page_and_another_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, operations.ROWS, "Rotate, bicubic", "Solarize")
    page, pages = tmp_path / "fidelity.md", []
    for seed in (3, 3, 4):
        command = ["bench", "fidelity", f"--bench.images={COUNT}", f"--bench.markdown={page}", f"--train.seed={seed}"]
        assert main(command) == 0
        pages.append(page.read_text().replace(f"seed={seed}", "").replace(f"seed {seed}", "").splitlines())
    assert pages[0] == pages[1]
    assert pages[0] != pages[2]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Invert", (CODES["equalize"], 0)),  # another operation
        ("Brightness", (CODES["brightness"], LEVEL_FUNCTIONS.index(levels.greyness))),  # another magnitude
        ("SolarizeAdd", (NOTHING, 0)),
    ],
)
def test_a_wrong_operation_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, wrong: tuple[int, int]
) -> None:
    only(monkeypatch, operations.ROWS, "Equalize", name)
    monkeypatch.setitem(IN_POLICIES, name, wrong)
    out, page = tmp_path / "fidelity.json", tmp_path / "fidelity.md"
    page.write_text("an earlier page")
    assert main(["bench", "fidelity", f"--bench.images={COUNT}", f"--bench.markdown={page}", f"--out={out}"]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"deit-fast bench: {name} (against timm) differs by more than is wanted: see the table above\n"
    flagged = [line.split()[0] for line in printed.out.splitlines() if line.endswith("MORE THAN WANTED")]
    assert flagged == [name]
    assert page.read_text() == "an earlier page"
    assert not out.exists()


def test_a_small_share_of_wrong_pixels_of_a_policy_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, operations.POLICIES, "RandAugment rand-m9-mstd0.5-inc1, bicubic")
    assert main(["bench", "fidelity", "--bench.images=32"]) == 0
    applied = operations._applied

    def with_a_wrong_row(steps: Any, image: np.ndarray, is_bicubic: bool) -> np.ndarray:
        view = applied(steps, image, is_bicubic)
        view[:1] ^= 1
        return view

    monkeypatch.setattr(operations, "_applied", with_a_wrong_row)
    assert main(["bench", "fidelity", "--bench.images=32"]) == 2


def test_wrong_targets_are_caught(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    only(monkeypatch, batches.ROWS, "CutMix, targets", "CutMix, images", "Mixup, targets")

    def shifted_box(*arguments: Any) -> tuple[int, ...]:
        y0, y1, x0, x1 = box(*arguments)
        return y0, max(y1 - 1, y0), x0, x1

    box = mix.cutmix_box
    monkeypatch.setattr(mix, "cutmix_box", shifted_box)
    assert main(["bench", "fidelity", f"--bench.images={COUNT}"]) == 2
    error = "CutMix, images (against timm) differs by more than is wanted, and so does 1 other"
    assert error in capsys.readouterr().err


def test_figures_are_those_of_the_differences() -> None:
    ours = np.array([[[0, 250, 3]], [[7, 7, 7]]], np.uint8)
    theirs = np.array([[[255, 251, 3]], [[7, 7, 7]]], np.uint8)
    found = bench_fidelity._differences(iter([(ours, theirs), (ours, ours)]))
    assert found == {"num_views": 2, "num_values": 12, "max": 255.0, "mean": 256 / 12, "share_different": 2 / 12}
    floats = np.array([[0.5, np.nan]], np.float32)
    assert bench_fidelity._differences(iter([(floats, floats)]))["max"] == float("inf")
    assert bench_fidelity._differences(iter([]))["num_values"] == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (100.0, "100"), (79.6, "80"), (1.78, "1.8"), (0.000051, "0.000051"), (0.0001, "0.0001"), (256.4, "256")],
)
def test_figures_are_printed_without_exponents(number: float, text: str) -> None:
    assert bench_fidelity._plain(number) == text


def test_random_images_are_of_many_sizes_and_the_same_for_a_seed(tmp_path: Path) -> None:
    first, again, other = (random_material(tmp_path / str(i), 16, seed, 1) for i, seed in enumerate((0, 0, 1)))
    assert all(image.ndim == 3 and 32 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 320 for image in first.images)
    assert len({image.shape for image in first.images}) > 8
    for image, same in zip(first.images, again.images, strict=True):
        np.testing.assert_array_equal(image, same)
    assert first.jpegs == again.jpegs
    assert first.jpegs != other.jpegs


def test_images_of_a_source_are_cropped_and_its_jpegs_kept(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images", {"cat": 2}, 350, 400)
    Image.fromarray(smooth_image(7, 40, 20)).save(folder / "cat" / "small.jpg", quality=70)
    material = source_material(tmp_path, SourceConfig(path=str(folder)), 9, 0, 1)
    assert len(material.images) == 9
    assert all(image.shape[0] <= 320 and image.shape[1] <= 320 for image in material.images)
    assert len({image.shape for image in material.images}) > 3
    assert [Image.open(io.BytesIO(jpeg)).size for jpeg in material.jpegs] == [(400, 350), (400, 350), (20, 40)]
    assert material.jpegs[2] == (folder / "cat" / "small.jpg").read_bytes()
    assert len(source_material(tmp_path / "all", SourceConfig(path=str(folder)), None, 0, 1).images) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bench.images=1"], "bench.images=1: want at least 2 random images"),
        (["--bench.images=all"], "bench.images=all: want at least 2 random images"),
        (["--bench.markdown=no/such/page.md"], "bench.markdown=no/such/page.md: want the name of a file"),
    ],
)
def test_options_that_do_not_fit(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["bench", "fidelity", *words]) == 2
    assert capsys.readouterr().err.startswith(f"deit-fast bench: {message}")


def test_a_source_of_one_image_is_too_little(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_images(tmp_path / "images", {"cat": 1})
    assert main(["bench", "fidelity", "--bench.images=1", f"--source.path={tmp_path / 'images'}"]) == 2
    assert "want at least 2 images" in capsys.readouterr().err


def test_global_generators_are_left_as_they_were() -> None:
    random.seed(1)
    wanted = random.random()
    random.seed(1)
    with seeded(5):
        first = random.random(), np.random.random()  # noqa: NPY002
    assert random.random() == wanted
    with seeded(5):
        assert (random.random(), np.random.random()) == first  # noqa: NPY002
