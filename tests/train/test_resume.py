"""Runs that are ended at any step and go on: with which weights, from which checkpoint, and what they refuse."""

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deit_fast.config import RunConfig, SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.plan.training import train
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint, save_checkpoint
from deit_fast.train.run_folder import check_same_place
from deit_fast.train.stop import SIGNALS
from deit_fast.train.trainer import Trainer
from tests.tiny_runs import MakeRun, events_of, tiny_config

STEPS = 11  # of an epoch: 352 images in batches of 32


def _short(make_run: MakeRun, folder: Path, **changes: object) -> RunConfig:
    options = {"data.batch_size": 32, "data.subset": 32 * STEPS, "train.epochs": 2, "train.log_every": 4}
    return make_run(**{**options, "run.dir": str(folder), **changes})


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing ended."""
    folder: Path = tmp_path_factory.mktemp("whole")
    return folder / "run"


@pytest.fixture(scope="module")
def whole(digits: Path, whole_folder: Path) -> dict[str, object]:
    """The summary of that run."""
    return train(_short(functools.partial(tiny_config, digits, whole_folder), whole_folder), [])


def _interrupt() -> None:
    raise KeyboardInterrupt


def _step_of(folder: Path) -> int:
    step: int = load_checkpoint(folder / "checkpoints" / "last.pt")["step"]
    return step


def test_ended_inside_an_epoch_it_goes_on_to_the_same_weights(
    tiny_run: MakeRun,
    tmp_path: Path,
    whole: dict[str, object],
    whole_folder: Path,
    at_step: Callable[[int, Callable[[], None]], None],
) -> None:
    folder = tmp_path / "parts"
    options = {"train.resume": True, "train.checkpoint_steps": 3, "optim.name": "adamw"}
    at_step(8, _interrupt)  # after the checkpoint of step 6
    with pytest.raises(KeyboardInterrupt):
        train(_short(tiny_run, folder, **options), [])
    assert _step_of(folder) == 6
    at_step(STEPS - 6 + 4, _interrupt)  # in epoch 1, after the checkpoint of its step 3
    with pytest.raises(KeyboardInterrupt):
        train(_short(tiny_run, folder, **options), [])
    assert _step_of(folder) == STEPS + 3
    parts = train(_short(tiny_run, folder, **options), [])
    assert parts["weights_sha256"] == whole["weights_sha256"]
    assert {name: parts[name] for name in parts if name.startswith("best")} == {
        name: whole[name] for name in whole if name.startswith("best")
    }
    last = [load_checkpoint(run / "checkpoints" / "last.pt") for run in (whole_folder, folder)]
    assert last[0]["ema_updates"] == last[1]["ema_updates"] == 2 * STEPS
    for key, value in last[0]["state_dict_ema"].items():
        assert torch.equal(value, last[1]["state_dict_ema"][key])
    epochs = {e["epoch"]: e for e in read_events(folder / "log.jsonl") if e["event"] == "epoch"}
    for event in read_events(whole_folder / "log.jsonl"):
        if event["event"] == "epoch":
            assert epochs[event["epoch"]]["loss"] == pytest.approx(event["loss"])
            assert epochs[event["epoch"]]["top1"] == pytest.approx(event["top1"])


@pytest.fixture(scope="module")
def shards(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pattern of the training images in four shards."""
    out = tmp_path_factory.mktemp("shards") / "train.beton"
    write_beton(SourceConfig(path=str(digits / "train")), WriteConfig(out=str(out), num_workers=1, shards=4))
    return f"{out.parent}/*.beton"


@pytest.mark.parametrize("order", ["random", pytest.param("pages", marks=pytest.mark.slow)])
def test_a_run_may_go_on_from_shards_of_its_beton(
    tiny_run: MakeRun,
    digits: Path,
    tmp_path: Path,
    shards: str,
    at_step: Callable[[int, Callable[[], None]], None],
    order: str,
) -> None:
    options = {"data.order": order, "data.window_gb": 5e-4, "train.checkpoint_steps": 3}
    whole = train(_short(tiny_run, tmp_path / "whole", **options), [])
    folder = tmp_path / "parts"
    at_step(8, _interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(_short(tiny_run, folder, **options), [])
    options["train.resume"] = True
    first, *others = [str(path) for path in sorted(Path(shards).parent.glob("*.beton"))]
    for text, words in (
        (",".join([*others, first]), "data.train=.*: holds other labels"),
        (f"{first}*2", r"data\.train=.*\*2: has \d+ images, checkpoint .* is of a run on 1438"),
    ):
        with pytest.raises(UserError, match=words):
            train(_short(tiny_run, folder, **options, **{"data.train": text}), [])
    parts = train(_short(tiny_run, folder, **options, **{"data.train": shards}), [])
    assert parts["weights_sha256"] == whole["weights_sha256"]
    first_start, *_, last_start = events_of(folder, "start")
    betons = last_start["datasets"]["train"]["betons"]
    assert [one["path"] for one in betons] == [first, *others]
    assert sum(one["num_images"] for one in betons) == 1438
    assert all(len(one["manifest"]) == 64 for one in betons)
    assert [one["path"] for one in first_start["datasets"]["train"]["betons"]] == [str(digits / "train.beton")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_notice_ends_in_a_checkpoint_of_the_same_step(
    tiny_run: MakeRun,
    tmp_path: Path,
    whole: dict[str, object],
    at_step: Callable[[int, Callable[[], None]], None],
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "parts"
    at_step(5, lambda: os.kill(os.getpid(), number))
    handlers = [signal.getsignal(each) for each in SIGNALS]
    ended = train(_short(tiny_run, folder), [])
    assert ended == {"stopped": number.name, "epoch": 0, "step": 5, "checkpoint": "checkpoints/last.pt"}
    assert f"stopped by {number.name} at epoch 1, step 5; go on with --train.resume" in capsys.readouterr().out
    assert _step_of(folder) == 5
    assert not (folder / "summary.json").exists()
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    assert train(_short(tiny_run, folder, **{"train.resume": True}), [])["weights_sha256"] == whole["weights_sha256"]


def test_a_hang_up_that_nohup_lets_the_process_ignore_ends_nothing(
    tiny_run: MakeRun, tmp_path: Path, whole: dict[str, object], at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        at_step(5, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert train(_short(tiny_run, tmp_path / "parts"), [])["weights_sha256"] == whole["weights_sha256"]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_notice_during_an_evaluation_does_not_wait_for_its_end(
    tiny_run: MakeRun, tmp_path: Path, whole: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "parts"
    with monkeypatch.context() as patch:
        evaluate = Trainer.evaluate

        def told(trainer: Trainer, should_stop: Callable[[], bool]) -> object:
            os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(trainer, should_stop)

        patch.setattr(Trainer, "evaluate", told)
        assert train(_short(tiny_run, folder), [])["step"] == STEPS
    assert not events_of(folder, "eval")
    parts = train(_short(tiny_run, folder, **{"train.resume": True}), [])
    assert (parts["weights_sha256"], parts["best_top1"]) == (whole["weights_sha256"], whole["best_top1"])
    epochs = [event["epoch"] for event in events_of(folder, "epoch")]
    assert epochs == [0, 1]


def test_a_flipped_byte_is_refused_and_the_checkpoint_before_is_named(tiny_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = _short(tiny_run, folder, **{"train.resume": True})
    first = train(config, [])
    newest, before = folder / "checkpoints" / "step-00000022.pt", folder / "checkpoints" / "step-00000011.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.raises(UserError, match=f"step-00000022.pt: damaged: .*the one before it is {before}"):
        train(config, [])
    newest.unlink()
    assert train(config, [])["weights_sha256"] == first["weights_sha256"]


@pytest.fixture
def no_room_at_step_11(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(path: Path, content: dict[str, object]) -> None:
        if content["step"] == STEPS:
            raise OSError(28, "No space left on device")
        save_checkpoint(path, content)

    monkeypatch.setattr("deit_fast.train.run_folder.save_checkpoint", save)


@pytest.mark.usefixtures("no_room_at_step_11")
def test_a_best_checkpoint_that_was_not_written_is_not_the_best(tiny_run: MakeRun, tmp_path: Path) -> None:
    frozen = {"optim.lr": 1e-12, "schedule.warmup_lr": 0.0, "schedule.min_lr": 0.0, "train.ema_decay": None}
    summary = train(_short(tiny_run, tmp_path / "run", **frozen), [])  # both epochs are as good
    best = load_checkpoint(tmp_path / "run" / str(summary["checkpoint"]))
    assert best["step"] == best["best_step"] == summary["best_step"] == 2 * STEPS


@pytest.mark.usefixtures("no_room_at_step_11")
def test_a_notice_after_a_failed_checkpoint_ends_in_one_that_is_there(
    tiny_run: MakeRun, tmp_path: Path, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    at_step(STEPS + 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(_short(tiny_run, tmp_path / "run"), [])["stopped"] == "SIGTERM"
    last = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert (last["step"], last["best_step"]) == (STEPS + 1, -1)


def test_names_that_a_kill_left_undone_are_mended(
    tiny_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_step: Callable[[int, Callable[[], None]], None]
) -> None:
    def be_killed(path: Path, name: str) -> None:
        (path.parent / ".last.pt.123.part").write_bytes(b"half")
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    config = _short(tiny_run, folder, **{"train.resume": True, "train.keep_every": 1})
    with monkeypatch.context() as patch:
        patch.setattr("deit_fast.train.run_folder.link_checkpoint", be_killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, [])
    checkpoints = folder / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == [".last.pt.123.part", "step-00000011.pt"]
    at_step(1, _interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, [])
    names = ["best.pt", "epoch-0001.pt", "last.pt", "step-00000011.pt"]
    assert sorted(path.name for path in checkpoints.iterdir()) == names
    assert all((checkpoints / name).samefile(checkpoints / "step-00000011.pt") for name in names)


@pytest.mark.parametrize("found", [["step-00000011.pt", None], ["step-00000022.pt", "step-00000022.pt", "step-00000011.pt"]])
def test_ranks_that_find_different_checkpoints_are_stopped(found: list[str | None], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"rank 0 finds {found[0]} .*rank {len(found) - 1} finds .*all nodes share"):
        check_same_place(found, tmp_path)
    check_same_place([found[0]] * 3, tmp_path)
    check_same_place([None, None], tmp_path)


def test_ranks_that_torchrun_may_restart_need_a_folder(tiny_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(UserError, match=r"run\.dir is not set: .*--max-restarts"):
        train(tiny_run(**{"run.dir": ""}), [])


def test_ranks_that_torchrun_restarts_go_on(
    tiny_run: MakeRun,
    tmp_path: Path,
    whole: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    at_step: Callable[[int, Callable[[], None]], None],
) -> None:
    config = _short(tiny_run, tmp_path / "parts", **{"train.checkpoint_steps": 2})
    at_step(7, _interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, [])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train(config, [])["weights_sha256"] == whole["weights_sha256"]
    assert [e["step"] for e in events_of(tmp_path / "parts", "start")] == [0, 6]
