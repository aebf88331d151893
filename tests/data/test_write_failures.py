"""Nothing is left of a conversion that fails, whatever ends it, and the error says what was wrong."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from deit_fast.config import UserError, WriteConfig
from deit_fast.data import writer
from deit_fast.data.beton import open_beton
from deit_fast.data.sources import read_image
from deit_fast.data.write import write_beton
from deit_fast.data.writer import BetonWriter, WorkerError
from tests.data.image_folders import convert, make_images, make_images_with_bad_ones

FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.timeout(60)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Shared memory segments that conversions in this process made."""
    made: list[Path] = []
    prepare = BetonWriter.prepare

    def spy(self: BetonWriter) -> None:
        prepare(self)
        made.append(Path("/dev/shm") / self.metadata_sm.name)
        assert made[-1].exists()

    monkeypatch.setattr(BetonWriter, "prepare", spy)
    yield made
    assert made
    assert not [path for path in made if path.exists()]


def test_a_bad_image_ends_the_conversion(tmp_path: Path, segments: list[Path]) -> None:
    source = make_images_with_bad_ones(tmp_path / "images")
    with pytest.raises(UserError, match=r"(0002x|0000a|zz)\.\w+: .*; --write\.on_error=skip leaves") as error:
        convert(source, tmp_path / "set.beton")
    assert "\n" not in str(error.value)
    assert names_in(tmp_path) == ["images"]


def test_a_folder_of_bad_images_alone_is_an_error(tmp_path: Path, segments: list[Path]) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "images" / "cat" / name).write_text("not an image")
    with pytest.raises(UserError, match="none of its 3 files is an image"):
        convert(tmp_path / "images", tmp_path / "set.beton", on_error="skip")
    assert names_in(tmp_path) == ["images"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": ""}, "write.source is not set"),
        ({"out": ""}, "write.out is not set"),
        ({"source": "{}/nowhere"}, "nowhere: no such folder"),
        ({"out": "{}/nowhere/set.beton"}, "there is no folder .*/nowhere"),
        ({"out": "{}/images"}, "images is a folder"),
        ({"out": "/dev/null"}, "/dev/null is not a file"),
    ],
)
def test_refuses_before_any_work(tmp_path: Path, options: dict[str, str], message: str) -> None:
    source = make_images(tmp_path / "images")
    given: dict[str, Any] = {"source": str(source), "out": str(tmp_path / "set.beton")}
    given |= {name: value.format(tmp_path) for name, value in options.items()}
    with pytest.raises(UserError, match=message):
        write_beton(WriteConfig(**given))
    assert names_in(tmp_path) == ["images"]


def refused_as_nobody(out: Path, report: Connection) -> None:
    """Runs in a process of its own, which root leaves for a user who may not write everywhere; reports the refusal."""
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        convert(Path("images"), out)
    except UserError as error:
        report.send(str(error))


def test_refuses_a_folder_that_cannot_be_written_to() -> None:
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=refused_as_nobody, args=(Path("/set.beton"), sender))
    process.start()
    sender.close()
    assert receiver.recv() == "write.out=/set.beton: the folder / cannot be written to"
    process.join(20)
    assert process.exitcode == 0


def kill_worker(path: str) -> NDArray[np.uint8]:
    if path.endswith("dog/0002.png"):
        os.kill(os.getpid(), signal.SIGKILL)
    return read_image(path)


def break_worker(path: str) -> NDArray[np.uint8]:
    if path.endswith("dog/0002.png"):
        raise RuntimeError("a defect")
    return read_image(path)


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize(
    ("read", "message"),
    [
        (kill_worker, r"worker \d was killed by SIGKILL .* with .*dog/0002\.png in hand"),
        (break_worker, r"(?s)worker \d failed with .*dog/0002\.png in hand\n.*in break_worker\n.*Error: a defect"),
    ],
)
def test_a_worker_that_dies_or_raises_ends_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    segments: list[Path],
    read: Callable[[str], NDArray[np.uint8]],
    message: str,
    num_workers: int,
) -> None:
    source = make_images(tmp_path / "images", {"cat": 40, "dog": 40})
    monkeypatch.setattr(writer, "read_image", read)
    with pytest.raises(WorkerError, match=message):
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
        with monkeypatch.context() as patch, pytest.raises(WorkerError):
            patch.setattr(writer, "read_image", kill_worker)
            convert(source, out)
        with monkeypatch.context() as patch, pytest.raises(PermissionError):
            patch.setattr(Path, "replace", fail_for_betons)
            convert(source, out)

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
    """Runs in a process of its own: reports the shared memory's name, then the error that the conversion ends with."""
    prepare = BetonWriter.prepare

    def spy(self: BetonWriter) -> None:
        prepare(self)
        report.send(self.metadata_sm.name)

    def slow(path: str) -> NDArray[np.uint8]:
        time.sleep(seconds)
        return read_image(path)

    patch = pytest.MonkeyPatch()
    patch.setattr(BetonWriter, "prepare", spy)
    patch.setattr(writer, "read_image", slow)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, resource.RLIM_INFINITY))
    try:
        convert(source, out, mode="raw")
    except BaseException as error:
        report.send(f"{type(error).__name__}: {error}")
        raise


def start(source: Path, out: Path, seconds: float, max_file_bytes: int) -> tuple[BaseProcess, Connection]:
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=convert_aside, args=(source, out, seconds, max_file_bytes, sender))
    process.start()
    sender.close()
    return process, receiver


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGTERM, "SystemExit: 143"), (signal.SIGINT, "KeyboardInterrupt: ")])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, wanted: str) -> None:
    source = make_images(tmp_path / "images", {"cat": 40})
    process, report = start(source, tmp_path / "set.beton", 2.0, resource.RLIM_INFINITY)
    segment = Path("/dev/shm") / report.recv()
    time.sleep(0.5)
    # Python's own tracker of shared memory ends a moment after the process that started it
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if not any("resource_tracker" in word for word in child.cmdline())]
    assert len(workers) == 2
    assert segment.is_file()
    assert any(".partial-" in name for name in names_in(tmp_path))
    assert process.pid is not None
    os.kill(process.pid, number)
    assert report.recv() == wanted
    process.join(20)
    assert process.exitcode not in (0, None)
    assert names_in(tmp_path) == ["images"]
    assert not segment.exists()
    assert not [worker for worker in workers if worker.is_running()]


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    source = make_images(tmp_path / "images", {"cat": 8})
    process, report = start(source, tmp_path / "set.beton", 0.0, 12_000_000)  # 8 MiB pages: the first is cut short
    segment = Path("/dev/shm") / report.recv()
    assert report.recv() == f"UserError: {tmp_path / 'set.beton'}: cannot be written: No space left on device"
    process.join(20)
    assert names_in(tmp_path) == ["images"]
    assert not segment.exists()
