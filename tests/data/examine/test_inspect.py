"""`inspect` says what is in a beton, with and without its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deit_fast.config import InspectConfig, UserError
from deit_fast.data.examine import inspect as module
from deit_fast.data.examine.inspect import inspect_beton
from deit_fast.data.format.beton import manifest_path, open_beton
from deit_fast.data.format.index import read_index
from tests.data.image_folders import convert, make_images, make_images_with_bad_ones


@pytest.fixture
def beton(tmp_path: Path) -> Path:
    out = tmp_path / "set.beton"
    convert(make_images_with_bad_ones(tmp_path / "images"), out, mode="proportion", on_error="skip", seed=3)
    return out


def rows_of(text: str) -> dict[str, str]:
    return {name.strip(): value for name, _, value in (line.partition("   ") for line in text.splitlines())}


def test_the_table_of_a_beton_with_its_manifest(beton: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads(manifest_path(beton).read_text())
    capsys.readouterr()
    result = inspect_beton(InspectConfig(beton=str(beton)))
    text = capsys.readouterr().out
    rows = rows_of(text)
    assert json.loads(json.dumps(result)) == result
    assert result["manifest"] == manifest
    for name in ("num_samples", "num_jpeg", "num_raw", "file_bytes", "stored_bytes", "width", "height"):
        assert result[name] == manifest[name], name
    assert result["tiles"]["num_tiles"] == manifest["num_tiles"]
    assert rows["images"].strip().startswith("12: ")
    assert rows["data.decode=gpu"].strip() == "all images are decoded on the GPU"
    assert rows["classes"].strip() == "3, with 3 (elk) to 5 (cat) images"
    assert "mode=proportion" in rows["settings"]
    assert "out=" not in rows["settings"]
    assert rows["odd files"].strip() == "0 converted, 0 repaired, 3 skipped"
    assert "cat/0002x.jpg: skipped: not an image that Pillow knows" in text
    assert "to train from memory: " in rows["memory"]


def test_the_table_of_a_beton_without_its_manifest(beton: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest_path(beton).unlink()
    capsys.readouterr()
    result = inspect_beton(InspectConfig(beton=str(beton)))
    rows = rows_of(capsys.readouterr().out)
    assert result["manifest"] is None
    assert rows["manifest"].strip().startswith("none beside the beton")
    assert rows["classes"].strip() == "3, with 3 (label 2) to 5 (label 0) images"


def test_what_a_gpu_leaves_to_the_cpu_is_said_and_how_to_mend_it(
    beton: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    num_jpeg = inspect_beton(InspectConfig(beton=str(beton)))["num_jpeg"]
    assert num_jpeg > 1
    index = read_index(open_beton(beton))
    assert index is not None
    untiled = index.rows.copy()
    untiled["num_tiles"][np.flatnonzero(untiled["num_tiles"])[0]] = 0
    for rows, which in (
        (None, "all JPEGs"),
        (np.zeros_like(untiled), "all JPEGs"),
        (untiled, f"1 of {num_jpeg} JPEGs"),
    ):
        monkeypatch.setattr(module, "images_of", lambda _, rows=rows: SimpleNamespace(rows=rows))
        capsys.readouterr()
        inspect_beton(InspectConfig(beton=str(beton)))
        said = rows_of(capsys.readouterr().out)["data.decode=gpu"].strip()
        assert said.startswith(f"{which} are left to the CPU: a GPU decodes tiles, and they have none; ")
        assert said.endswith("deit-fast write --source.path=IMAGES --write.out=FILE")


@pytest.mark.parametrize("entry", ["pixel_values", "exif_orientations", "digests", "odd"])
def test_a_manifest_with_other_entries_is_refused(beton: Path, entry: str) -> None:
    manifest = json.loads(manifest_path(beton).read_text())
    manifest[entry] = {"pixel_values": {}, "exif_orientations": 5, "digests": {}, "odd": [3]}[entry]
    manifest_path(beton).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="lacks entries of a manifest"):
        inspect_beton(InspectConfig(beton=str(beton)))


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for path, message in (("", "inspect.beton is not set"), (str(tmp_path / "none"), "no such file")):
        with pytest.raises(UserError, match=message):
            inspect_beton(InspectConfig(beton=path))


def test_the_table_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(make_images(tmp_path / "a", {"ant": 3, "bee": 2}), tmp_path / "a.beton")
    convert(make_images(tmp_path / "b", {"bee": 1, "cow": 4}, height=90), tmp_path / "b.beton")
    capsys.readouterr()
    result = inspect_beton(InspectConfig(beton=f"{tmp_path}/a.beton,{tmp_path}/b.beton*2"))
    rows = rows_of(text := capsys.readouterr().out)
    assert json.loads(json.dumps(result)) == result
    assert rows["images"].strip() == "15: 15 JPEG, 0 raw"
    assert rows["classes"].strip() == "3, with 3 (ant) to 8 (cow) images"
    assert "48 to 90" in rows["height"]
    both = [inspect_beton(InspectConfig(beton=f"{tmp_path}/{name}.beton")) for name in ("a", "b")]
    assert result["file_bytes"] == sum(one["file_bytes"] for one in both)
    assert result["tiles"]["num_tiles"] == both[0]["tiles"]["num_tiles"] + 2 * both[1]["tiles"]["num_tiles"]
    assert [(file["num_images"], file["times"]) for file in result["betons"]] == [(5, 1), (5, 2)]
    assert "a.beton: 5 images" in rows["files"]
    assert "b.beton: 5 images" in text
    assert "MB, shown 2 times an epoch" in text
