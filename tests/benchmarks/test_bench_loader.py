"""The data path is measured by stage, by threads and beside rivals on the same images, and nothing is left behind."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deit_fast.__main__ import main
from deit_fast.benchmarks import interleave
from deit_fast.benchmarks.chart import bench_png
from deit_fast.benchmarks.files import BenchFiles
from deit_fast.benchmarks.interleave import interleaved, wait_for_rest
from deit_fast.benchmarks.rivals import dali_rival, ffcv_rival, timm_rival
from deit_fast.benchmarks.rivals.common import WORKS, NotInstalled, Setting, sample_order, views_per_second
from deit_fast.benchmarks.stages import STAGES
from deit_fast.config import SourceConfig, UserError
from tests.data.image_folders import convert, make_images, smooth_image

QUICK = ["--bench.rounds=2", "--bench.seconds=0.05", "--bench.threads=1", "--data.batch_size=4", "--data.resolution=32"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve JPEGs in two class folders; the system's temporary folder is `scratch` beside them."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    for number in range(12):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth_image(number, 48, 64)).save(path, quality=95)
    return tmp_path / "images"


def setting(images: Path, scratch: Path) -> Setting:
    return Setting(
        BenchFiles(scratch, SourceConfig(path=str(images)), None, 1), batch_size=4, resolution=32, num_cores=1, seed=0
    )


@pytest.mark.slow
def test_stages_threads_and_works_are_in_table_json_and_chart(
    images: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scratch = tmp_path_factory.mktemp("t")  # short: sockets lie there
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    out = tmp_path / "bench.json"
    parts = "--bench.work=evaluation,stages,threads"
    words = ["bench", "loader", f"--source.path={images}", *QUICK, parts, "--bench.against=timm,ffcv", f"--out={out}"]
    assert main(words) == 0
    result = json.loads(out.read_text())
    assert list(result["stages"]) == list(STAGES)
    for stage in result["stages"].values():
        assert stage["milliseconds_per_view"] == pytest.approx(1000 / stage["views_per_second"])
        assert len(stage["rounds"]) == 2
    assert {kind: list(counts) for kind, counts in result["threads"].items()} == {"training": ["1"], "evaluation": ["1"]}
    assert list(result["works"]) == ["evaluation"]  # of the rivals, stock FFCV has none
    work = result["works"]["evaluation"]
    assert list(work["systems"]) == ["deit_fast", "timm"]
    rounds = [work["systems"][name]["rounds"] for name in ("deit_fast", "timm")]
    assert work["ratios"]["timm"]["rounds"] == pytest.approx([ours / theirs for ours, theirs in zip(*rounds, strict=True)])
    assert result["images"]["num_images"] == 12
    assert result["kind"] == "loader"
    printed = capsys.readouterr().out
    assert "ms a view" in printed
    assert "ours is" in printed
    with Image.open(tmp_path / "bench.png") as chart:
        assert chart.width > 1000
    assert not list(scratch.iterdir())
    assert not multiprocessing.active_children()


def test_a_beton_is_measured_itself_and_its_images_are_taken_out_for_rivals(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(images, tmp_path / "set.beton")
    chart = tmp_path / "chart.png"
    given = [f"--data.train={tmp_path / 'set.beton'}", "--bench.work=stages,recipe3", "--bench.images=8"]
    assert main(["bench", "loader", *given, *QUICK, f"--bench.chart={chart}"]) == 0
    assert chart.is_file()
    assert "8 images of" in capsys.readouterr().out


def test_what_the_rivals_get_is_what_was_given(images: Path, tmp_path: Path) -> None:
    """Files taken out of a beton are those that went in; each writer's beton is made once."""
    wanted = sorted(path.read_bytes() for path in images.rglob("*.jpg"))
    convert(images, tmp_path / "set.beton", mode="jpg")
    from_folder = BenchFiles(tmp_path / "one", SourceConfig(path=str(images)), None, 1)
    from_beton = BenchFiles(tmp_path / "two", str(tmp_path / "set.beton"), None, 1)
    assert sorted(path.read_bytes() for path in from_folder.folder.rglob("*.jpg")) == wanted
    assert from_folder.num_bytes == sum(map(len, wanted))
    pixels = [
        sorted(np.asarray(Image.open(path)).tobytes() for path in files.folder.rglob("*.jpg"))
        for files in (from_folder, from_beton)
    ]
    assert pixels[0] == pixels[1]
    assert (from_beton.num_images, from_beton.num_classes) == (12, 2)
    assert from_folder.beton("deit_fast", 32) is from_folder.beton("deit_fast", 32)


@pytest.mark.slow
def test_several_betons_are_measured_as_one_set(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        convert(make_images(tmp_path / name, {name: 6}), tmp_path / f"{name}.beton")
    given = [f"--data.train={tmp_path}/a.beton*2,{tmp_path}/b.beton", "--bench.work=evaluation,stages,threads"]
    assert main(["bench", "loader", *given, *QUICK]) == 0
    assert "18 images of" in capsys.readouterr().out


def test_pngs_stay_pngs_and_a_subset_has_its_share_of_each_class(tmp_path: Path) -> None:
    make_images(tmp_path / "images", {"cat": 6, "dog": 3})
    files = BenchFiles(tmp_path / "scratch", SourceConfig(path=str(tmp_path / "images")), 6, 1)
    folders = sorted(files.folder.iterdir())
    assert [len(list(folder.glob("*.png"))) for folder in folders] == [4, 2]


def test_raw_pixels_are_no_files(images: Path, tmp_path: Path) -> None:
    convert(images, tmp_path / "raw.beton", mode="raw")
    with pytest.raises(UserError, match="holds raw pixels"):
        BenchFiles(tmp_path / "files", str(tmp_path / "raw.beton"), None, 1)


@pytest.mark.slow
def test_stages_of_a_beton_of_raw_pixels_have_no_decoding(images: Path, tmp_path: Path) -> None:
    convert(images, tmp_path / "raw.beton", mode="raw")
    out = tmp_path / "bench.json"
    given = [f"--data.train={tmp_path / 'raw.beton'}", "--bench.work=stages", f"--out={out}"]
    assert main(["bench", "loader", *given, *QUICK]) == 0
    assert list(json.loads(out.read_text())["stages"]) == [name for name in STAGES if name != "decode whole"]


@pytest.mark.parametrize("name", ["recipe3", "recipe1", "evaluation"])
def test_timm_gives_batches(
    images: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # its workers' sockets lie there, whose names may have 107 characters
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))
    with contextlib.closing(timm_rival.open_timm(WORKS[name], setting(images, tmp_path / "files"))) as system:
        assert [next(system.batches) for _ in range(5)] == [4] * 5
        assert ("RandAugment" in system.does) == ("RandomErasing" in system.does) == (name != "evaluation")
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crop", "raw"])
def test_stock_ffcv_gives_batches(images: Path, tmp_path: Path, name: str) -> None:
    with contextlib.closing(ffcv_rival.open_ffcv(WORKS[name], setting(images, tmp_path / "files"))) as system:
        assert [next(system.batches) for _ in range(5)] == [4] * 5
        assert views_per_second(system, 0.01) > 0


@pytest.mark.parametrize("name", ["recipe3", "crop"])
def test_dali_gives_batches(images: Path, tmp_path: Path, name: str) -> None:
    try:
        dali_rival.check_installed()
    except NotInstalled as error:
        pytest.skip(f"DALI is not installed: {error}")
    with contextlib.closing(dali_rival.open_dali(WORKS[name], setting(images, tmp_path / "files"))) as system:
        assert [next(system.batches) for _ in range(5)] == [4] * 5
        assert bool(system.lacks) == (name == "recipe3")


def test_a_rival_that_is_not_installed_is_left_out(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_missing() -> None:
        raise NotInstalled("No module named 'nvidia.dali'")

    monkeypatch.setattr(dali_rival, "check_installed", is_missing)
    out = tmp_path / "bench.json"
    given = [f"--source.path={images}", "--bench.against=dali", "--bench.work=crop", f"--out={out}"]
    assert main(["bench", "loader", *given, *QUICK]) == 0
    assert "dali: left out, since it is not installed (No module named 'nvidia.dali')\n" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["left_out"] == {"dali": "No module named 'nvidia.dali'"}
    assert list(result["works"]["crop"]["systems"]) == ["deit_fast"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "source.path and data.train: neither is set"),
        (["--source.path=a", "--data.train=b"], "source.path and data.train: both are set"),
        (["--source.path=a", "--bench.against=tim"], "bench.against=tim: tim is not known; want some of timm, ffcv, dali"),
        (["--source.path=a", "--bench.against=timm,timm"], "bench.against=timm,timm: names one twice"),
        (["--source.path=a", "--bench.work=recipe"], "bench.work=recipe: recipe is not known; want some of stages, threads, "),
        (["--source.path=a", "--bench.work=schedule"], "bench.work=schedule: schedule.stages is off; want stages"),
        (["--source.path=a", "--data.batch_size=7"], "data.batch_size=7: Mixup mixes pairs"),
        (["--source.path=a", "--bench.seconds=0"], "bench.seconds=0.0: want above 0"),
        (["--source.path=missing"], "missing: no such folder"),
        (["--data.train=missing"], "missing: no such file; want a beton"),
        (["--source.path=a", "--bench.chart=missing/a.png"], "bench.chart=missing/a.png: want the name of a file in an "),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "loader", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"deit-fast bench: {message}")


def test_a_batch_that_the_images_do_not_fill_is_refused(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--source.path={images}", "--bench.work=recipe1", "--data.batch_size=16", "--bench.threads=1"]
    assert main(["bench", "loader", *given]) == 2
    assert "data.batch_size=16" in capsys.readouterr().err


def test_measurements_are_interleaved_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return len(calls)

    found = interleaved({"a": lambda: measure("a"), "b": lambda: measure("b")}, 2)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [4, 5], "b": [3, 6]}


def test_waiting_for_rest_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleave, "_cpu_seconds", time.perf_counter)  # a core is busy all the time
    assert not wait_for_rest(0.5)
    monkeypatch.setattr(interleave, "_cpu_seconds", lambda: 0.0)
    assert wait_for_rest()


def test_seconds_of_processors_are_those_of_this_process_and_its_children() -> None:
    before = interleave._cpu_seconds()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert interleave._cpu_seconds() - before > 0.15  # counted in hundredths
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with_child = interleave._cpu_seconds()
        child.communicate(b"\n")
    assert with_child - interleave._cpu_seconds() > 0.3


def test_order_of_training_repeats_each_sample_in_a_row() -> None:
    order = sample_order(12, 3, 0, 30)
    assert len(order) == 30
    for epoch in (order[:12], order[12:24]):
        runs = epoch.reshape(4, 3)
        assert (runs == runs[:, :1]).all()
        assert len(set(runs[:, 0])) == 4
    assert sorted(sample_order(12, 1, 0, 12)) == list(range(12))


def test_a_chart_of_every_part_is_a_png() -> None:
    figures: dict[str, Any] = {"views_per_second": 2.0, "rounds": [1.0, 2.0, 3.0], "lacks": ""}
    ratio = {"median": 1.0, "min": 0.5, "max": 2.0}
    result = {
        "num_cores": 2,
        "hardware": {"cpu": "a $processor_"},
        "stages": {"read": {**figures, "milliseconds_per_view": 0.5}},
        "threads": {"training": {"1": figures, "2": figures}},
        "schedule": [{**figures, "stage": 1, "resolution": 96, "betons": "a_$set_.beton"}],
        "works": {"crop": {"title": "crop", "systems": {"deit_fast": figures, "dali": figures}, "ratios": {"dali": ratio}}},
    }
    with Image.open(io.BytesIO(bench_png(result))) as chart:
        assert chart.format == "PNG"
