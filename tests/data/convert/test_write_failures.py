"""Whatever ends a conversion: nothing under the final name, no process, one clear line; and what is finished is kept."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.sources import base
from deit_fast.data.convert.sources.folder import ImageFolder
from deit_fast.data.convert.workers import WorkerDied, WorkerError
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format.beton import open_beton
from tests.data.image_folders import convert, make_images, make_images_with_bad_ones

FORK = multiprocessing.get_context("fork")
READ = ImageFolder.read

pytestmark = pytest.mark.timeout(300)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_bad_image_ends_the_conversion(tmp_path: Path) -> None:
    source = make_images_with_bad_ones(tmp_path / "images")
    with pytest.raises(UserError, match=r"(0002x|0000a|zz)\.\w+: .*; --write\.on_error=skip leaves") as error:
        convert(source, tmp_path / "set.beton", num_workers=2)
    assert "\n" not in str(error.value)
    assert names_in(tmp_path) == ["images"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "source.path is not set"),
        ({"out": ""}, "write.out is not set"),
        ({"path": "{}/nowhere"}, "nowhere: no such folder"),
        ({"out": "{}/nowhere/set.beton"}, "there is no folder .*/nowhere"),
        ({"out": "{}/images"}, "images is a folder"),
        ({"out": "/dev/null"}, "/dev/null is not a file"),
    ],
)
def test_refuses_before_any_work(tmp_path: Path, options: dict[str, str], message: str) -> None:
    source = make_images(tmp_path / "images")
    given = {"path": str(source), "out": str(tmp_path / "set.beton")}
    given |= {name: value.format(tmp_path) for name, value in options.items()}
    with pytest.raises(UserError, match=message):
        write_beton(SourceConfig(path=given["path"]), WriteConfig(out=given["out"]))
    assert names_in(tmp_path) == ["images"]


def refused_as_nobody(source: Path, out: Path, report: Connection) -> None:
    """Runs in a process of its own, which root leaves for a user who may not do everything; reports the refusal."""
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        convert(source, out, num_workers=2)
    except UserError as error:
        report.send(str(error))


def refusal(source: Path, out: Path) -> str:
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=refused_as_nobody, args=(source, out, sender))
    process.start()
    sender.close()
    message: str = receiver.recv()
    process.join(20)
    assert process.exitcode == 0
    return message


def test_refuses_a_folder_that_cannot_be_written_to() -> None:
    assert refusal(Path("images"), Path("/set.beton")) == "write.out=/set.beton: the folder / cannot be written to"


@pytest.mark.slow
def test_an_unreadable_file_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:  # others may not enter pytest's folders
        folder = Path(name)
        folder.chmod(0o777)
        make_images(folder / "images")
        (folder / "images" / "dog" / "0002.png").chmod(0)
        message = refusal(folder / "images", folder / "set.beton")
        assert message == "dog/0002.png: cannot be read: Permission denied; --write.on_error=skip leaves such files out"
        assert names_in(folder) == ["images"]


def kill_worker(self: ImageFolder, sample: int) -> bytes:
    if self.name(sample) == "dog/0002.png" and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return READ(self, sample)


def break_worker(self: ImageFolder, sample: int) -> bytes:
    if self.name(sample) == "dog/0002.png" and multiprocessing.parent_process() is not None:
        raise RuntimeError("a defect")
    return READ(self, sample)


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize(
    ("read", "kind", "message"),
    [
        (kill_worker, WorkerDied, r"^worker \d was killed by SIGKILL .* with dog/0002\.png in hand$"),
        (break_worker, WorkerError, r"(?s)worker \d failed with dog/0002\.png in hand\n.*in break_worker\n.*Error: a defect"),
    ],
)
@pytest.mark.slow
def test_a_worker_that_dies_or_raises_ends_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[ImageFolder, int], bytes],
    kind: type[Exception],
    message: str,
    num_workers: int,
) -> None:
    source = make_images(tmp_path / "images", {"cat": 20, "dog": 20})
    monkeypatch.setattr(ImageFolder, "read", read)
    with pytest.raises(kind, match=message):
        convert(source, tmp_path / "set.beton", num_workers=num_workers)
    assert names_in(tmp_path) == ["images"]
    assert not multiprocessing.active_children()


def test_an_earlier_beton_stays_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = make_images(tmp_path / "images"), tmp_path / "set.beton"
    replace = Path.replace

    def fail_for_betons(self: Path, target: Path) -> Path:
        if target == out:
            raise PermissionError(1, "Operation not permitted", str(target))
        return replace(self, target)

    def convert_in_vain() -> None:
        with monkeypatch.context() as patch, pytest.raises(WorkerDied):
            patch.setattr(ImageFolder, "read", kill_worker)
            convert(source, out, num_workers=2)
        with monkeypatch.context() as patch, pytest.raises(PermissionError):
            patch.setattr(Path, "replace", fail_for_betons)
            convert(source, out)
        for left in ("set.beton.partial", "set.beton.partial.parts"):  # the second had come to its end
            (tmp_path / left).unlink()

    convert_in_vain()
    assert names_in(tmp_path) == ["images"]
    convert(source, out, mode="raw")
    before = {path: path.read_bytes() for path in (out, tmp_path / "set.beton.json")}

    convert_in_vain()
    assert {path: path.read_bytes() for path in before} == before
    assert names_in(tmp_path) == ["images", "set.beton", "set.beton.json"]

    convert(source, out, mode="jpg")
    assert set(open_beton(out).modes) == {0}


def convert_aside(source: Path, out: Path, seconds: float, max_file_bytes: int, report: Connection) -> None:
    """Runs in a process of its own: converts slowly, and reports the error that the conversion ends with."""

    def slow(self: ImageFolder, sample: int) -> bytes:
        if multiprocessing.current_process().daemon:  # in a worker
            time.sleep(seconds)
        return READ(self, sample)

    patch = pytest.MonkeyPatch()
    patch.setattr(ImageFolder, "read", slow)
    patch.setattr(base, "SAMPLES_PER_PART", 4)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, resource.RLIM_INFINITY))
    try:
        convert(source, out, mode="raw", num_workers=2)
    except BaseException as error:
        report.send(f"{type(error).__name__}: {error}")
        raise


def start(source: Path, out: Path, seconds: float, max_file_bytes: int) -> tuple[BaseProcess, Connection]:
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=convert_aside, args=(source, out, seconds, max_file_bytes, sender))
    process.start()
    sender.close()
    return process, receiver


def wait_for(condition: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + 20
    while not (value := condition()):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return value


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGTERM, "SystemExit: 143"), (signal.SIGINT, "KeyboardInterrupt: ")])
def test_a_signal_ends_all_processes_and_keeps_what_is_finished(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals, wanted: str
) -> None:
    source, out = make_images(tmp_path / "images", {"cat": 40}), tmp_path / "set.beton"
    process, report = start(source, out, 0.05, resource.RLIM_INFINITY)
    assert process.pid is not None
    parts = tmp_path / "set.beton.partial.parts"
    wait_for(lambda: parts.exists() and parts.stat().st_size > 10_000)  # one part at least, each has its histograms
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 2
    os.kill(process.pid, number)
    assert report.recv() == wanted
    process.join(20)
    assert process.exitcode not in (0, None)
    assert names_in(tmp_path) == ["images", "set.beton.partial", "set.beton.partial.parts"]
    assert not [worker for worker in workers if worker.is_running()]
    assert " of 40 images, " in capfd.readouterr().err

    with pytest.raises(UserError, match=r"set\.beton\.partial: .* --resume goes on with it; .* delete it and set\.beton\.par"):
        convert(source, out, mode="raw", num_workers=2)
    with pytest.raises(UserError, match=r"cannot be resumed: write\.mode was 'raw' and is 'jpg'; use the settings"):
        convert(source, out, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "SAMPLES_PER_PART", 4)
        convert(source, out, mode="raw", resume=True)
        convert(source, tmp_path / "whole.beton", mode="raw")
    assert out.read_bytes() == (tmp_path / "whole.beton").read_bytes()
    assert names_in(tmp_path) == ["images", "set.beton", "set.beton.json", "whole.beton", "whole.beton.json"]


def test_a_full_disk_is_one_clear_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = make_images(tmp_path / "images", {"cat": 40}), tmp_path / "set.beton"
    process, report = start(source, out, 0.0, 200_000)  # of 368,640 bytes of pixels
    assert report.recv() == f"UserError: {out}: cannot be written: {os.strerror(errno.EFBIG)}"
    process.join(20)
    left = names_in(tmp_path)
    assert left == ["images", "set.beton.partial", "set.beton.partial.parts"]
    assert " of 40 images, " in capfd.readouterr().err


def test_too_little_space_is_seen_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_images(tmp_path / "images", {"cat": 40})
    usage = type("Usage", (), {"free": 300_000})
    monkeypatch.setattr("deit_fast.data.convert.output.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"set\.beton: will take about 0\.4 MB, and 0\.3 MB are free there"):
        convert(source, tmp_path / "set.beton", mode="raw")
    assert names_in(tmp_path) == ["images"]


def test_a_pipe_in_a_class_folder_does_not_hang(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images")
    os.mkfifo(source / "cat" / "pipe.jpg")
    (source / "dog" / "device.jpg").symlink_to("/dev/zero")
    manifest = convert(source, tmp_path / "set.beton", on_error="skip")
    assert [(odd["name"], odd["reason"]) for odd in manifest["odd"]] == [
        ("cat/pipe.jpg", "cannot be read: is not a regular file"),
        ("dog/device.jpg", "cannot be read: is not a regular file"),
    ]


def test_a_link_to_another_disk_is_followed(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images")
    (tmp_path / "disk").mkdir()
    (tmp_path / "set.beton").symlink_to(tmp_path / "disk" / "real.beton")
    convert(source, tmp_path / "set.beton")
    assert names_in(tmp_path / "disk") == ["real.beton", "real.beton.json"]
    assert open_beton(tmp_path / "set.beton").num_samples == 12


def test_two_at_once_on_one_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = make_images(tmp_path / "images", {"cat": 40}), tmp_path / "set.beton"
    process, _ = start(source, out, 0.5, resource.RLIM_INFINITY)
    wait_for((tmp_path / "set.beton.partial").exists)
    monkeypatch.setattr("deit_fast.data.convert.partial._LOCK_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"set\.beton: another process is writing it"):
        convert(source, out, mode="raw", num_workers=2)
    process.terminate()
    process.join(20)
