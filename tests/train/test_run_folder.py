"""A run's folder: its choice, which checkpoints stay in it under which names, and what a full disk does to a run."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deit_fast.config import RunConfig, UserError
from deit_fast.plan.training import train
from deit_fast.record.log import read_events
from deit_fast.train import run_folder
from deit_fast.train.checkpoint import load_checkpoint, save_checkpoint
from deit_fast.train.dist import World
from deit_fast.train.run_folder import Keeper, folder_of_run, load_newest
from tests.tiny_runs import tiny_config, with_options


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SameSecond(datetime):
        @classmethod
        def now(cls, tz: object = None) -> SameSecond:
            return cls(2026, 2, 3, 4, 5, 6)

    monkeypatch.setattr(run_folder, "datetime", SameSecond)
    monkeypatch.chdir(tmp_path)
    config, world = with_options({"model.name": "vit"}), World(0, 1, torch.device("cpu"))
    meeting, found = threading.Barrier(4), []

    def start() -> None:
        meeting.wait()
        with folder_of_run(config, world) as folder:
            found.append(str(folder))
            meeting.wait()
            if len(folder.name) > len("vit-20260203-040506"):
                (folder / "run.json").touch()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = "runs/vit-20260203-040506"
    assert sorted(found) == [first, *(f"{first}-{number}" for number in (2, 3, 4))]
    assert sorted(path.name for path in Path("runs").iterdir()) == sorted(Path(name).name for name in found if name != first)
    with folder_of_run(with_options({"run.dir": "mine"}), world) as folder:
        assert folder == Path("mine")
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").touch()
    with (
        pytest.raises(UserError, match=r"runs.*choose a --run\.dir"),
        folder_of_run(RunConfig(), World(0, 1, torch.device("cpu"))),
    ):
        pass


def _content(step: int, tensor: torch.Tensor) -> dict[str, object]:
    weights = {"w": tensor}
    return {"step": step, "best_step": -1, "state_dict": weights, "model": weights, "list": [tensor, (1, "a")]}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_policy_keeps_the_newest_the_best_and_those_for_good(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, keep_last=2)
    for step in range(1, 6):
        content = _content(step, torch.full((3,), float(step)))
        kept_name = f"epoch-{step}.pt" if step == 3 else ""
        keeper.save(content, epoch=0, step=step, is_best=step == 2, kept_name=kept_name)
    keeper.wait()
    assert _names(tmp_path) == ["best.pt", "epoch-3.pt", "last.pt", "step-00000004.pt", "step-00000005.pt"]
    found = {name: load_checkpoint(tmp_path / name)["step"] for name in _names(tmp_path)}
    assert found == {"best.pt": 2, "epoch-3.pt": 3, "last.pt": 5, "step-00000004.pt": 4, "step-00000005.pt": 5}
    assert [saved.step for saved in keeper.finished()] == [1, 2, 3, 4, 5]
    assert keeper.finished() == []


def test_tensors_of_a_checkpoint_are_contiguous_and_their_own(tmp_path: Path) -> None:
    whole = torch.arange(120.0).view(2, 3, 4, 5)
    weights = {
        "channels last": whole.to(memory_format=torch.channels_last),
        "transposed": whole[0, 0].T,
        "part": whole[1],
        "expanded": torch.arange(3.0).expand(2, 3),
        "number": torch.tensor(7),
    }
    keeper = Keeper(tmp_path, keep_last=1)
    keeper.save({"step": 1, "model": weights, "state_dict": weights}, epoch=0, step=1, is_best=False)
    keeper.wait()
    found = load_checkpoint(tmp_path / "last.pt")["model"]
    assert all(tensor.is_contiguous() for tensor in found.values())
    save_file(found, tmp_path / "model.safetensors")
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(tensor, weights[name]), name


def test_a_checkpoint_is_of_its_moment_though_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write = threading.Event()

    def slow(path: Path, content: dict[str, object]) -> None:
        may_write.wait(10)
        save_checkpoint(path, content)

    monkeypatch.setattr(run_folder, "save_checkpoint", slow)
    keeper, tensor = Keeper(tmp_path, keep_last=1), torch.arange(4.0)
    content = _content(1, tensor)
    keeper.save(content, epoch=0, step=1, is_best=False)
    tensor.add_(100)
    content["step"] = 7
    may_write.set()
    keeper.save(_content(2, tensor), epoch=0, step=2, is_best=False)  # waits, and uses the memory of the first again
    tensor.zero_()
    keeper.wait()
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest[0]["state_dict"]["w"].tolist() == [100, 101, 102, 103]
    assert newest[0]["state_dict"]["w"].data_ptr() == newest[0]["model"]["w"].data_ptr()  # one copy for both names
    assert newest[0]["list"][1] == (1, "a")


def test_a_failed_checkpoint_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(tmp_path, keep_last=1)
    keeper.save(_content(1, torch.ones(3)), epoch=0, step=1, is_best=True)
    keeper.wait()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        keeper.save(_content(2, torch.ones(3)), epoch=0, step=2, is_best=True)
        keeper.wait()
    assert [saved.error for saved in keeper.finished()] == ["", "No space left on device"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_names_are_copies_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(link: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    keeper = Keeper(tmp_path, keep_last=1)
    for step in (1, 2):
        keeper.save(_content(step, torch.ones(3)), epoch=0, step=step, is_best=step == 1)
    keeper.wait()
    assert [saved.error for saved in keeper.finished()] == ["", ""]
    found = {name: load_checkpoint(tmp_path / name)["step"] for name in _names(tmp_path)}
    assert found == {"best.pt": 1, "last.pt": 2, "step-00000002.pt": 2}


def test_a_bug_in_the_thread_reaches_the_run(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, keep_last=1)
    keeper.save({"step": 1, "bad": threading.Lock()}, epoch=0, step=1, is_best=False)
    keeper.wait()
    with pytest.raises(TypeError, match="pickle"):
        keeper.finished()
    assert _names(tmp_path) == []


@pytest.mark.parametrize("position", [0.01, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("name", ["last.pt", "step-00000002.pt"])
def test_any_flipped_byte_is_found(tmp_path: Path, position: float, name: str) -> None:
    keeper = Keeper(tmp_path, keep_last=2)
    for step in (1, 2):
        keeper.save(_content(step, torch.rand(1000)), epoch=0, step=step, is_best=False)
    keeper.wait()
    content = bytearray((tmp_path / name).read_bytes())
    content[int(position * len(content))] ^= 0x10
    with (tmp_path / name).open("r+b") as file:  # both names are one file
        file.write(content)
    with pytest.raises(UserError, match=r"step-00000002\.pt: .*the one before it is .*step-00000001\.pt"):
        load_newest(tmp_path)


@pytest.mark.slow
def test_what_is_left_of_a_folder_is_gone_on_with_or_named(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, keep_last=1)
    keeper.save(_content(1, torch.rand(10)), epoch=0, step=1, is_best=True)
    keeper.save(_content(2, torch.rand(10)), epoch=0, step=2, is_best=False)
    keeper.wait()
    newest = tmp_path / "step-00000002.pt"
    whole = newest.read_bytes()
    with newest.open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(UserError, match=r"step-00000002\.pt: .*there is best\.pt still: delete the damaged one, and copy one"):
        load_newest(tmp_path)
    newest.unlink()
    (tmp_path / "last.pt").write_bytes(whole)
    found = load_newest(tmp_path)
    assert found is not None
    assert (found[0]["step"], found[1].name) == (2, "last.pt")
    (tmp_path / "last.pt").unlink()
    with pytest.raises(UserError, match=r"holds best\.pt, but no newest checkpoint; copy one to last\.pt"):
        load_newest(tmp_path)
    (tmp_path / "best.pt").unlink()
    assert load_newest(tmp_path) is None


def test_checkpoints_of_another_run_are_not_mixed_with_new_ones(digits: Path, tmp_path: Path) -> None:
    stale = tmp_path / "run" / "checkpoints" / "step-00000099.pt"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another run")
    with pytest.raises(UserError, match=r"holds step-00000099\.pt of another run; choose another --run\.dir"):
        train(tiny_config(digits, tmp_path / "run"), [])
    assert [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] == [stale.name]


@pytest.mark.slow
def test_a_disk_that_takes_no_checkpoint_is_reported_and_the_run_goes_on(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [
        "train", f"--data.train={digits / 'train.beton'}", f"--data.val={digits / 'val.beton'}", f"--run.dir={folder}",
        "--data.resolution=32", "--data.num_workers=1", "--model.name=deit_tiny_patch16_224",
        "--model.options=patch_size=8,embed_dim=48,depth=2,num_heads=2", "--schedule.warmup_epochs=1", "--train.epochs=3",
        "--train.device=cpu", "--data.batch_size=128",
    ]  # fmt: skip
    limit = 300_000  # bytes of any file that the process writes; a checkpoint has about a million

    done = subprocess.run(
        [sys.executable, "-m", "deit_fast", *words], capture_output=True, text=True, check=False, timeout=200,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert "could not be written (File too large); there is no checkpoint yet; make room, and go on from there" in lines[0]
    events = read_events(folder / "log.jsonl")
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [0, 1, 2]
    assert len([event for event in events if event["event"] == "checkpoint_failed"]) >= 1
    assert list((folder / "checkpoints").iterdir()) == []


def test_no_room_is_found_at_the_start(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deit_fast.plan.training import train

    monkeypatch.setattr("deit_fast.train.run_folder.shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10_000})())
    with pytest.raises(UserError, match=r"run\.dir=.*: its disk has 0\.0 MB left, and checkpoints of 0\.\d MB each need"):
        train(tiny_config(digits, tmp_path / "run"), [])
    assert not (tmp_path / "run").exists()
