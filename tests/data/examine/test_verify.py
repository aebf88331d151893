"""Betons that are what was written pass `verify`, which says of each what was checked and what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from deit_fast.config import InspectConfig, UserError, VerifyConfig
from deit_fast.data.examine.inspect import inspect_beton
from deit_fast.data.examine.verify import check_beton, verify_beton
from deit_fast.data.format.beton import manifest_path, open_beton, read_manifest
from tests.data.examine.verified import check, copy, write_stock
from tests.data.image_folders import convert, make_images


def test_a_sound_beton_passes(tiny: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = verify_beton(VerifyConfig(beton=str(tiny), num_workers=2))
    assert (result["num_samples"], result["num_checked"], result["problems"]) == (12, 12, [])
    assert [kind for kind, was_possible in result["checked"].items() if not was_possible] == ["source"]
    assert json.loads(json.dumps(result)) == result
    assert "12 images" in capsys.readouterr().out


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_command_names_sample_class_and_file(
    tiny: Path, source: Path, tmp_path: Path, num_workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy(tiny, tmp_path)
    offset = int(open_beton(path).offsets[5])
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0")
    with pytest.raises(UserError, match=r"1 problem\(s\) found, the first with sample 5"):
        verify_beton(VerifyConfig(beton=str(path), num_workers=num_workers))
    assert "sample 5 (label 1, dog, dog/05.png): is not what was written" in capsys.readouterr().out


def test_many_problems_are_counted(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_images(tmp_path / "images", {"cat": 30}, 16, 16)
    path = tmp_path / "set.beton"
    convert(source, path)
    beton = open_beton(path)
    with path.open("r+b") as file:
        for offset, size in zip(beton.offsets.tolist(), beton.sizes.tolist(), strict=True):
            file.seek(offset + size - 1)
            file.write(b"\0")
    with pytest.raises(UserError, match=r"30 problem\(s\)"):
        verify_beton(VerifyConfig(beton=str(path), num_workers=2))
    assert "… and 10 more" in capsys.readouterr().out


def test_a_manifest_of_another_beton_is_found(tiny: Path, tmp_path: Path) -> None:
    path = copy(tiny, tmp_path)
    manifest = json.loads(manifest_path(path).read_text())
    digests = manifest["digests"]
    for changes, message in (
        ({"file_bytes": 5}, "file_bytes 5, it is"),
        ({"images_per_class": [5, 3, 4]}, "images_per_class"),
        ({"digests": digests | {"structure": "0" * 64}}, "all but its images"),
        ({"digests": digests | {"blocks": ["0" * 64]}}, "samples 0 to 11 are not those"),
        ({"digests": digests | {"blocks": []}}, "has not the digests of 1 blocks"),
    ):
        manifest_path(path).write_text(json.dumps(manifest | changes))
        ((sample, what),) = check(path)
        assert sample is None
        assert re.search(message, what)


def test_a_manifest_of_a_version_without_words_is_understood(tiny: Path, source: Path, tmp_path: Path) -> None:
    path = copy(tiny, tmp_path)
    manifest = json.loads(manifest_path(path).read_text())
    manifest["source"] |= {"subset": 0}
    manifest["settings"] |= {"max_resolution": 0}
    manifest_path(path).write_text(json.dumps(manifest))
    assert check(path, source) == check(tiny, source) == []
    assert inspect_beton(InspectConfig(beton=str(path)))["manifest"] == read_manifest(tiny)


@pytest.mark.parametrize("with_note", [False, True])
@pytest.mark.parametrize("mode", ["jpg", "raw"])
def test_betons_of_stock_ffcv_pass(tmp_path: Path, mode: str, with_note: bool) -> None:
    path = tmp_path / "stock.beton"
    write_stock(path, mode, with_note)
    result = check_beton(VerifyConfig(beton=str(path), num_workers=1))
    assert result["problems"] == []
    possible = {kind for kind, was_possible in result["checked"].items() if was_possible}
    assert possible == {"structure", "decoding"} | (set() if with_note else {"zeros between images"})


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for path, message in (("", "verify.beton is not set"), (str(tmp_path / "none"), "no such file")):
        with pytest.raises(UserError, match=message):
            verify_beton(VerifyConfig(beton=path))


def test_several_betons_are_checked_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        convert(make_images(tmp_path / name, {"cat": 2, name: 2}), tmp_path / f"{name}.beton")
    config = VerifyConfig(beton=f"{tmp_path}/*.beton", num_workers=1)
    result = verify_beton(config)
    assert [Path(one["beton"]).name for one in result["betons"]] == ["a.beton", "b.beton", "c.beton"]
    assert result["num_samples"] == 12
    beton = open_beton(tmp_path / "b.beton")
    content = bytearray(beton.path.read_bytes())
    content[int(beton.offsets[1]) + 30] ^= 1
    beton.path.write_bytes(content)
    (tmp_path / "a.beton").write_bytes(b"")
    capsys.readouterr()
    with pytest.raises(UserError, match=r"2 of 3 betons have problems, the first .*a\.beton"):
        verify_beton(config)
    said = capsys.readouterr().out
    assert "a.beton: not a beton" in said
    assert "sample 1 (label 0, b" in said
    assert "c.beton: 4 images" in said


def test_several_betons_that_do_not_fit_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert(make_images(tmp_path / name, {name: 2}), tmp_path / f"{name}.beton")
    shutil.copy(tmp_path / "a.beton", tmp_path / "c.beton")
    with pytest.raises(UserError, match=r"c\.beton: has no class names"):
        verify_beton(VerifyConfig(beton=f"{tmp_path}/*.beton", num_workers=1))
