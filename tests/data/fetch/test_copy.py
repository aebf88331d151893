"""A beton at an address is copied whole, whatever the server and the processes do, and only once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from deit_fast.config import DataConfig, InspectConfig, UserError
from deit_fast.data.examine.inspect import inspect_beton
from deit_fast.data.fetch import copy
from deit_fast.data.fetch.local import local_text, open_here
from deit_fast.data.fetch.state import read_state
from deit_fast.data.format.beton import manifest_path, open_beton
from tests.data.fetch.web_server import Server, serving
from tests.data.image_folders import convert, make_images

FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.timeout(120)

_RECORD = copy.Copy._record


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 raw images, 37 kB each."""
    folder = tmp_path_factory.mktemp("beton")
    make_images(folder / "images", {"cat": 20, "dog": 20}, 96, 128)
    convert(folder / "images", folder / "set.beton", mode="raw")
    return folder / "set.beton"


@pytest.fixture
def served(beton: Path, tmp_path: Path) -> Path:
    """The beton in a folder that may be changed."""
    (tmp_path / "www").mkdir()
    put(beton, tmp_path / "www" / "set.beton")
    return tmp_path / "www" / "set.beton"


@pytest.fixture
def server(served: Path) -> Iterator[Server]:
    with serving(served.parent) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, the server is asked each time, and much is recorded."""
    monkeypatch.setattr(copy, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(copy, "SEEN_SECONDS", 0.0)
    monkeypatch.setattr(copy, "_SAVE_BYTES", 1 << 16)


def put(beton: Path, place: Path) -> None:
    shutil.copy(beton, place)
    shutil.copy(manifest_path(beton), manifest_path(place))


def data(server: Server | str, tmp_path: Path, name: str = "set.beton") -> DataConfig:
    address = server if isinstance(server, str) else f"{server.address}/{name}"
    return DataConfig(val=address, cache_dir=str(tmp_path / "cache"))


def copied(config: DataConfig) -> Path:
    return Path(local_text(config, "val"))


def is_copy(path: Path, beton: Path) -> bool:
    pairs = (path, beton), (manifest_path(path), manifest_path(beton))
    return all(one.read_bytes() == other.read_bytes() for one, other in pairs)


@pytest.mark.parametrize("has_etag", [True, False])
@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_copy_is_the_file(server: Server, beton: Path, tmp_path: Path, has_ranges: bool, has_etag: bool) -> None:
    server.has_ranges, server.has_etag = has_ranges, has_etag
    path = copied(data(server, tmp_path))
    assert is_copy(path, beton)
    assert server.sent["set.beton"] == beton.stat().st_size
    assert open_here(data(server, tmp_path), "val").labels.tolist() == open_beton(beton).labels.tolist()
    assert server.sent["set.beton"] == beton.stat().st_size


def test_it_goes_on_after_lost_connections(server: Server, beton: Path, tmp_path: Path) -> None:
    server.drop_after, server.num_busy = 100_000, 2
    assert is_copy(copied(data(server, tmp_path)), beton)
    assert server.sent["set.beton"] == beton.stat().st_size  # no byte twice
    starts = [start for name, start in server.ranges if name == "set.beton"]
    assert starts == list(range(0, beton.stat().st_size, 100_000))


def test_parts_of_a_file_come_at_the_same_time(
    server: Server, beton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "_SHARE_BYTES", 150_000)
    server.drop_after, server.num_busy = 40_000, 5
    assert is_copy(copied(data(server, tmp_path)), beton)
    assert server.sent["set.beton"] == beton.stat().st_size  # no byte twice
    starts = {start for name, start in server.ranges if name == "set.beton"}
    assert starts >= set(range(0, beton.stat().st_size, 150_000))


def test_a_server_without_ranges_may_lose_connections(server: Server, beton: Path, tmp_path: Path) -> None:
    server.has_ranges = False
    server.drop_after = beton.stat().st_size - 1000
    config = data(server, tmp_path)
    with pytest.raises(UserError, match="ended the connection early; what is copied stays"):
        copied(config)
    server.drop_after = None
    assert is_copy(copied(config), beton)


def test_a_server_that_refuses_head(server: Server, beton: Path, tmp_path: Path) -> None:
    server.head_status = 403
    assert is_copy(copied(data(server, tmp_path)), beton)


def test_without_a_manifest_it_is_said_and_copied(
    server: Server, served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest_path(served).unlink()
    path = copied(data(server, tmp_path))
    assert path.read_bytes() == served.read_bytes()
    assert "has no manifest beside it" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["other bytes", "other length", "other manifest"])
def test_a_changed_file_is_copied_anew(
    server: Server, served: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = data(server, tmp_path)
    path = copied(config)
    with path.open("rb") as used:
        if what == "other manifest":
            manifest_path(served).write_text(manifest_path(served).read_text() + " ")
        else:
            make_images(tmp_path / "others", {"cat": 10, "elk": 30 if what == "other bytes" else 31}, 96, 128)
            convert(tmp_path / "others", served, mode="raw")
        before = path.read_bytes()
        assert is_copy(copied(config), served)
        assert used.read() == before  # who has the former file open keeps it
    assert "has changed: it is copied anew" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [{"cat": 10, "elk": 30}, {"cat": 20, "elk": 20}])  # the latter: another manifest alone
def test_a_file_that_changes_meanwhile_is_copied_anew(
    server: Server, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: dict[str, int]
) -> None:
    make_images(tmp_path / "others", classes, 96, 128)
    convert(tmp_path / "others", tmp_path / "others.beton", mode="raw")
    server.drop_after = 500_000

    def changing(*arguments: Any) -> None:
        _RECORD(*arguments)
        put(tmp_path / "others.beton", served)

    monkeypatch.setattr(copy.Copy, "_record", changing)
    assert is_copy(copied(data(server, tmp_path)), tmp_path / "others.beton")


@pytest.mark.parametrize("place", ["image", "tables"])
def test_a_damaged_file_is_one_line(server: Server, served: Path, tmp_path: Path, place: str) -> None:
    content = bytearray(served.read_bytes())
    content[int(open_beton(served).offsets[30]) + 100 if place == "image" else -5] ^= 1
    served.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.val=http://.*set\.beton: .*; the copy is removed") as raised:
        copied(data(server, tmp_path))
    assert "\n" not in str(raised.value)
    assert place == "tables" or "samples 0 to 39 are not what was written" in str(raised.value)
    assert not list((tmp_path / "cache").rglob("*.beton"))


def test_without_the_server_a_whole_copy_is_used(
    served: Path, beton: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(served.parent) as server:
        config = data(server, tmp_path)
        copied(config)
    assert is_copy(copied(config), beton)
    assert "cannot be read" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match=r"data\.val=http.*: cannot be read"):
        copied(config)


def test_what_is_not_there(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        copied(data(server, tmp_path, "other.beton"))


def test_a_disk_without_room_is_refused_at_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("deit_fast.data.fetch.local.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"1\.5 MB are to be copied, and 1\.0 MB are free"):
        copied(data(server, tmp_path))
    assert "set.beton" not in server.sent


def started(config: DataConfig, num_bytes: int) -> multiprocessing.process.BaseProcess:
    """A process that copies, and has recorded so many bytes."""
    process = FORK.Process(target=copied, args=(config,))
    process.start()
    while not (found := list(Path(config.cache_dir).rglob("copy.json"))) or (
        (state := read_state(found[0])) is None or state.num_done < num_bytes
    ):
        time.sleep(0.001)
        assert process.is_alive()
    return process


def slow_record(*arguments: Any) -> None:
    _RECORD(*arguments)
    time.sleep(0.05)


def test_a_killed_process_loses_nothing(server: Server, beton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = data(server, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(copy.Copy, "_record", slow_record)
        process = started(config, 300_000)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    num_ranges = len(server.ranges)
    assert is_copy(copied(config), beton)
    later = [start for name, start in server.ranges[num_ranges:] if name == "set.beton"]
    assert later and min(later) >= 300_000


def record_and_stop(itself: copy.Copy, state: Any, *where: Any) -> None:
    """Records, and stops once there is as much as the test wants, until it kills the process."""
    _RECORD(itself, state, *where)
    if state.num_done >= 200_000:
        time.sleep(600)


def test_another_process_goes_on_where_one_was_killed(
    server: Server, beton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = data(server, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(copy.Copy, "_record", record_and_stop)
        first = started(config, 200_000)
    second = FORK.Process(target=copied, args=(config,))
    second.start()
    said = ""
    while "waits for another process, which copies http" not in said:
        time.sleep(0.001)
        said += capfd.readouterr().err
        assert second.is_alive()
    first.kill()
    first.join()
    second.join()
    assert second.exitcode == 0
    path = next((tmp_path / "cache").rglob("set.beton"))
    assert is_copy(path, beton)


def test_of_all_ranks_one_copies(server: Server, beton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "SEEN_SECONDS", 60.0)
    server.drop_after = 200_000
    ranks = [FORK.Process(target=copied, args=(data(server, tmp_path),)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * 4
    assert server.sent["set.beton"] == beton.stat().st_size


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_file_systems_of_fsspec(kind: str, beton: Path, tmp_path: Path) -> None:
    root = f"/{tmp_path.name}" if kind == "memory" else str(tmp_path / "there")
    filesystem = fsspec.filesystem(kind)
    for number in range(3):
        for file in (beton, manifest_path(beton)):
            filesystem.makedirs(root, exist_ok=True)
            filesystem.pipe(f"{root}/set-{number}{''.join(file.suffixes)}", file.read_bytes())
    config = data(f"{kind}://{root}/set-*.beton", tmp_path)
    paths = [Path(text) for text in local_text(config, "val").split(",")]
    assert [path.name for path in paths] == ["set-0.beton", "set-1.beton", "set-2.beton"]
    assert all(is_copy(path, beton) for path in paths)
    weighted = local_text(data(f"{beton},{kind}://{root}/set-{{0..1}}.beton*3", tmp_path), "val")
    assert weighted == f"{beton},{paths[0]}*3,{paths[1]}*3"
    changed = bytearray(beton.read_bytes())
    changed[int(open_beton(beton).offsets[3])] ^= 1
    time.sleep(0.01)
    filesystem.pipe(f"{root}/set-1.beton", bytes(changed))
    with pytest.raises(UserError, match=r"set-1\.beton: samples 0 to 39"):
        local_text(config, "val")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/set.beton", "s3fs.*install that package"),
        ("gs://bucket/set.beton", "gcsfs.*install that package"),
        ("nowhere://bucket/set.beton", "want an address that fsspec knows"),
        ("memory://nothing-*.beton", "no file has such an address"),
        ("memory://nothing.beton", "there is no such file"),
        ("memory://a.beton*0", "weight 0"),
    ],
)
def test_addresses_that_cannot_be_read(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"data\.val=.*{message}"):
        copied(data(address, tmp_path))


def test_without_fsspec_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UserError, match=r"pip install 'deit_fast\[remote\]'"):
        copied(data("memory://set.beton", tmp_path))


def test_http_needs_no_fsspec(server: Server, beton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert is_copy(copied(data(server, tmp_path)), beton)


def test_other_options_take_files_of_this_machine() -> None:
    with pytest.raises(UserError, match=r"inspect\.beton=https://host/a\.beton: is on another machine"):
        inspect_beton(InspectConfig(beton="https://host/a.beton"))
