"""Tars are read as tarfile reads them, compressed or not; damage is named, and never taken for the end."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.config import UserError
from deit_fast.data.convert.sources.archives import Archive, in_processes
from deit_fast.data.convert.sources.files import Tar
from deit_fast.data.convert.sources.tar_listing import list_tar
from tests.data.convert.sources.samples import tar_bytes

FILES = {
    "./plain.jpg": b"a" * 700,
    "folder/empty.jpg": b"",
    f"{'long/' * 40}name.jpg": b"b" * 512,
    "größe 写真.jpg": b"c",
    "nach/latin\udce4.jpg": b"d" * 100_000,
}


def from_tarfile(content: bytes) -> list[tuple[str, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(m.name.removeprefix("./"), m.offset_data, m.size) for m in tar.getmembers() if m.isreg()]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_gives_the_files_of_a_tar(tmp_path: Path, mode: str, kind: int) -> None:
    path = tmp_path / "files.tar"  # told by its content, whatever its name
    path.write_bytes(tar_bytes(FILES, mode, kind))
    tar = Tar(path)
    assert {tar.names[n]: tar.read(n) for n in range(len(tar.names))} == {
        name.removeprefix("./"): content for name, content in FILES.items()
    }
    assert tar.numbers(["größe 写真.jpg", "plain.jpg"]).tolist() == [3, 0]
    assert os.listdir(tmp_path) == ["files.tar"]  # noqa: PTH208  (what it is unpacked to has no name)
    tar.close()


def test_folders_are_no_files_and_links_to_nowhere_and_devices_have_no_bytes(tmp_path: Path) -> None:
    path = tmp_path / "files.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"kind{kind!r}")
            member.type, member.linkname = kind, "elsewhere"
            tar.addfile(member)
        member = tarfile.TarInfo("file")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    opened = Tar(path)
    assert [opened.names[n] for n in range(len(opened.names))] == ["kindb'2'", "kindb'1'", "kindb'6'", "kindb'3'", "file"]
    assert opened.read(len(opened.names) - 1) == b"abc"
    for number in range(len(opened.names) - 1):
        with pytest.raises(OSError, match="link that leads nowhere in it, or no regular file"):
            opened.read(number)


def test_files_behind_the_end_are_not_lost(tmp_path: Path) -> None:
    """`cat a.tar b.tar` makes a file of which every reader sees the first tar alone, unless it is told to go on."""
    path = tmp_path / "both.tar"
    path.write_bytes(tar_bytes({"a": b"a"}) + bytes(512 * 40) + tar_bytes({"b": b"b"}))
    with pytest.raises(UserError, match=r"both\.tar: behind its end, 1 files, comes another tar; join them by"):
        Tar(path)
    path.write_bytes(tar_bytes({"a": b"a"}) + bytes(2000) + b"no header" * 100)
    assert len(Tar(path).names) == 1


def test_a_tar_within_a_file_ends_where_it_ends(tmp_path: Path) -> None:
    """A tar that lacks its end must not go on into what follows it."""
    inner, path = tar_bytes(FILES), tmp_path / "outer"
    path.write_bytes(b"x" * 1000 + inner + tar_bytes({"other": b"y"}))
    archive = Archive(path)
    listing = list_tar(archive.descriptor, 1000, 1000 + len(inner), "inner")
    assert [(name, offset - 1000, size) for name, offset, size in listing] == from_tarfile(inner)
    last = listing.offsets[-1] - 1000 + listing.sizes[-1]
    for end in (last // 512 * 512 + 512, last - 1, listing.offsets[1], 5 * 512, 513):
        with pytest.raises(UserError, match=r"^inner: .*(truncated|damaged)"):
            list_tar(archive.descriptor, 1000, 1000 + end, "inner")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_archive_is_named(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "files.tar"
    content = tar_bytes({name: os.urandom(5000) for name in "abcdef"}, mode)
    end = 6 * (512 + 5120) if mode == "w" else len(content)
    for length in (0, 5, 100, end // 2, end // 2 + 512, end - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as error:
            Tar(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@given(st.integers(0, 9_000), st.binary(min_size=1, max_size=600))
@pytest.mark.slow
def test_damage_raises_nothing_but_user_errors(tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes) -> None:
    content = tar_bytes({"a": b"a" * 2000, "b" * 150: b"b" * 700, "c": b""}, kind=tarfile.PAX_FORMAT)
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    try:
        tar = Tar(path)
    except UserError as error:
        assert "\n" not in str(error)
        return
    for number in range(len(tar.names)):
        tar.read(number)
    tar.close()


def test_what_is_cut_off_later_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "files.tar"
    path.write_bytes(tar_bytes({"a": b"a" * 2000}))
    tar = Tar(path)
    os.truncate(path, 1000)
    with pytest.raises(OSError, match=r"files\.tar: ends within a: 488 of its 2000 bytes"):
        tar.read(0)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "files.tar.gz"
    path.write_bytes(tar_bytes(FILES, "w:gz"))
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    with pytest.raises(UserError, match=rf"^{tmp_path}: No space left on device: .*files\.tar\.gz"):
        Tar(path)


def test_unpacks_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "files.tar.gz"
    path.write_bytes(tar_bytes(FILES, "w:gz"))
    with pytest.raises(UserError, match=r"nowhere: no place for the unpacked files\.tar\.gz: No such file"):
        Tar(path, tmp_path / "nowhere")
    (tmp_path / "scratch").mkdir()
    assert len(Tar(path, tmp_path / "scratch").names) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PK\x03\x04zip", "want a tar, plain or by gzip"), (b"text" * 300, "not a tar"), (None, "No such file"), ("", "folder")],
)
def test_what_is_no_tar_is_named(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "files.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(UserError, match=message) as error:
        Tar(path)
    assert str(path) in str(error.value)


def _half(number: int) -> tuple[int, int]:
    if number % 2:
        raise UserError(f"{number} is odd")
    return number // 2, os.getpid()


def test_processes_give_results_in_order_and_pass_errors_on() -> None:
    results = in_processes(_half, range(0, 200, 2))
    assert [half for half, _ in results] == list(range(100))
    assert os.getpid() not in {process for _, process in results}
    assert in_processes(_half, [2, 4]) == [(1, os.getpid()), (2, os.getpid())]
    with pytest.raises(UserError, match=r"^51 is odd$"):
        in_processes(_half, [*range(0, 100, 2), 51])
