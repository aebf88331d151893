"""Checkpoints that are missing, damaged or of something else are refused in one line; none is ever half-written."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deit_fast.config import AugmentConfig, OptimConfig, RunConfig, UserError
from deit_fast.train.checkpoint import check_same_run, link_checkpoint, load_any, load_checkpoint, load_weights, save_checkpoint


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"state_dict": {"a": torch.arange(3)}, "pair": (1.0, 2.0), "name": None})
    content = load_checkpoint(path)
    assert torch.equal(content["state_dict"]["a"], torch.arange(3))
    assert (content["pair"], content["name"]) == ((1.0, 2.0), None)


def test_a_checkpoint_of_a_version_without_words_is_of_the_same_run(tmp_path: Path) -> None:
    path, config = tmp_path / "last.pt", RunConfig(augment=AugmentConfig(mixup=None), optim=OptimConfig(no_decay="off"))
    old = config.as_dict()
    old["augment"] |= {"mixup": 0.0, "cutmix_minmax": (0.0, 0.0)}
    old["optim"] |= {"clip": 0.0, "no_decay": "none"}
    old["distil"] |= {"kind": "none"}
    old["data"] |= {"subset": 0, "eval_crop_ratio": 0.0, "start_resolution": 0}
    save_checkpoint(path, {"config": old, "global_batch_size": 8})
    content = load_checkpoint(path)
    assert content["config"] == config.as_dict()
    check_same_run(content, path, config, 8, 1, {})
    with pytest.raises(UserError, match=r"of a run with augment\.mixup=off, not 0\.8; start a new run"):
        check_same_run(content, path, replace(config, augment=AugmentConfig()), 8, 1, {})


def test_best_stays_when_last_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    link_checkpoint(path, "best.pt")
    save_checkpoint(path, {"epoch": 2})
    assert [load_checkpoint(tmp_path / name)["epoch"] for name in ("best.pt", "last.pt")] == [1, 2]
    link_checkpoint(path, "best.pt")
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_failure_while_writing_keeps_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})

    def fill_the_disk(content: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"epoch": 2})
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert load_checkpoint(path)["epoch"] == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 10, 200, 600])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"state_dict": {"a": torch.arange(3)}})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="cannot be read: it is damaged, or not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_weights_of_other_code_that_were_cut(tmp_path: Path, share: float) -> None:
    path = tmp_path / "regnety_160.pth"
    torch.save({"model": {"a": torch.zeros(5000)}}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"regnety_160\.pth: cannot be read: it is damaged, or not a checkpoint"):
        load_any(path)


def test_file_of_something_else(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "timm.pt")
    with pytest.raises(UserError, match="not a checkpoint of deit_fast"):
        load_checkpoint(tmp_path / "timm.pt")


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"its weights do not fit the model .*size mismatch"):
        load_weights(nn.Linear(2, 2), nn.Linear(2, 3).state_dict(), "some.pt")
