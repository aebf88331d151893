from __future__ import annotations

from pathlib import Path

import pytest

from deit_fast.config import UserError
from deit_fast.report.published_curves import published_curves, read_curve


def test_logs_of_deit_and_summaries_of_timm_are_read(tmp_path: Path) -> None:
    log, summary = tmp_path / "deit_s" / "log.txt", tmp_path / "mine.csv"
    log.parent.mkdir()
    log.write_text(
        '{"train_lr": 9.9e-07, "train_loss": 6.92, "test_loss": 6.90, "test_acc1": 0.206, "test_acc5": 0.9, "epoch": 0}\n'
        '{"train_lr": 9.9e-05, "train_loss": 6.51, "test_loss": 5.12, "test_acc1": 7.5, "epoch": 1, "n_parameters": 22050664}\n'
        '{"train_lr": 9.9e-05, "test_acc1": 8.25, "epoch": 1}\n'  # a resumed run trained it again
        '{"train_lr": 9.9e-05, "test_acc1": NaN, "epoch": 2}\n{"train_lr": 9.'
    )
    summary.write_text("epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n0,6.9,6.6,0.872,3.3,0.1\n5,5.1,3.1,38.5,60,0.1\n")
    curves = [read_curve(log), read_curve(summary)]
    assert [(curve.name, curve.epochs, curve.top1) for curve in curves] == [
        ("deit_s", (1, 2), (0.206, 8.25)), ("mine", (1, 6), (0.872, 38.5)),
    ]  # fmt: skip
    assert curves[0].source == str(log)


@pytest.mark.parametrize("content", [b"", b"epoch,loss\n0,1\n", b'{"epoch": 0}\n', b"[1]\n", b"\xff\xfe"])
def test_other_files_get_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(content)
    for file in (path, tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=r"^report\.curves=.*want ") as caught:
            read_curve(file)
        assert "\n" not in str(caught.value)


def test_published_curves_have_a_source_and_count_epochs_from_1() -> None:
    (curve,) = published_curves(["paper", "deit3"])
    assert curve.source.startswith("facebookresearch/deit, issue 160")
    assert (curve.epochs[0], curve.top1[0], curve.epochs[-1], curve.top1[-1]) == (1, 0.1, 141, 70.282)
    assert len(curve.epochs) == len(curve.top1) == 29
