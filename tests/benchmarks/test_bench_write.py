"""Conversion is measured beside stock FFCV's on the same images, and leaves nothing behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from deit_fast.__main__ import main
from tests.data.image_folders import smooth_image


@pytest.mark.slow
def test_both_conversions_of_both_kinds_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    for number in range(6):
        Image.fromarray(smooth_image(number, 300, 400)).save(tmp_path / "images" / "cat" / f"{number}.jpg", quality=95)
    out = tmp_path / "bench.json"
    source = f"--source.path={tmp_path / 'images'}"
    assert main(["bench", "write", source, "--bench.rounds=2", "--write.num_workers=2", f"--out={out}"]) == 0
    result = json.loads(out.read_text())
    assert result["kind"] == "write"
    assert list(result["comparisons"]) == ["as configured", "longest side 256"]
    for comparison in result["comparisons"].values():
        rates = comparison["images_per_second"]
        assert comparison["num_images"] == 6
        assert comparison["ratio"] == pytest.approx(rates["deit_fast"] / rates["ffcv"])
        assert [len(rounds) for rounds in comparison["rounds"].values()] == [2, 2]
        assert all(size > 0 for size in comparison["file_bytes"].values())
    # what needs no resizing keeps its quality of 95, where stock FFCV encodes at 90
    smaller = result["comparisons"]["longest side 256"]["file_bytes"]["deit_fast"]
    assert smaller < result["comparisons"]["as configured"]["file_bytes"]["deit_fast"]
    assert capsys.readouterr().out.count("times stock FFCV's") == 2
    assert not list((tmp_path / "scratch").iterdir())
