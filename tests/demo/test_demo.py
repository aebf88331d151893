"""The demonstration, from photographs to its table, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deit_fast.config import DemoConfig, UserError
from deit_fast.demo import demo
from tests.demo.photographs import write_noise

PROJECT = Path(__file__).parents[2]
TINY = """\
base: {recipe}
data: {{batch_size: 8, resolution: 32, num_workers: 1}}
model: {{options: {{embed_dim: 24, depth: 2, num_heads: 2}}}}
schedule: {{warmup_epochs: 0}}
train: {{epochs: 2, device: cpu}}
bench: {{steps: 1, rounds: 1}}
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(3):
        write_noise(folder / f"class{seed}.png", seed)
    return folder


@pytest.mark.slow
def test_photographs_of_ones_own(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.format(recipe=PROJECT / "deit_configs" / "demo_photos.yaml"))
    folder = tmp_path / "demo"
    folder.mkdir()
    for name in (".deit_fast_demo", "last.txt"):  # an earlier demonstration
        (folder / name).touch()
    config = DemoConfig(set="photos", photographs=str(photographs), dir=str(folder))
    result = demo(config, {"train": 50, "val": 20}, str(tmp_path / "tiny.yaml"))
    assert not (folder / "last.txt").exists()
    assert result["num_images"] == 18  # 6 of each class
    assert len(list((folder / "photos" / "train").glob("*/*.jpg"))) == 48
    assert json.loads((folder / "photos" / "train.beton.json").read_text())["classes"] == ["class0", "class1", "class2"]
    assert (folder / "report.html").is_file()
    printed = capsys.readouterr().out
    assert f"wrote 48 training and 18 validation images to {folder / 'photos'}" in printed
    assert f"$ deit-fast train --config-file={tmp_path / 'tiny.yaml'} --data.train={folder}/photos/train.beton" in printed
    assert f"top-1                  {result['top1']:.2f} % of 18 images" in printed


def test_errors_leave_everything_as_it_was(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").touch()
    with pytest.raises(UserError, match=r"demo\.dir=.*other: holds something other than an earlier demonstration"):
        demo(DemoConfig(dir=str(other)))
    with pytest.raises(UserError, match=r"demo\.photographs=x: is for photos; want --demo\.set=photos"):
        demo(DemoConfig(photographs="x"))
    with pytest.raises(UserError, match=r"demo\.photographs=x: is no folder"):
        demo(DemoConfig(set="photos", photographs="x"))
    earlier = tmp_path / "earlier"
    own = earlier / "own"
    own.mkdir(parents=True)
    (earlier / ".deit_fast_demo").touch()
    with pytest.raises(UserError, match=r"demo\.photographs=.*own: lies in demo\.dir=.*earlier, which is replaced"):
        demo(DemoConfig(set="photos", photographs=str(own), dir=str(earlier)))
    monkeypatch.setenv("PATH", str(tmp_path))  # without apt-get
    with pytest.raises(UserError, match=r"there is no apt-get here"):
        demo(DemoConfig(set="photos", dir=str(earlier)))
    assert own.is_dir()
    assert [path.name for path in other.iterdir()] == ["mine.txt"]
    assert not (tmp_path / "runs").exists()
