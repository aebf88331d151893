"""Photographs out of Debian's packages: found in what dpkg-deb unpacks, and one line where this is impossible."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deit_fast.config import UserError
from deit_fast.demo.debian import PACKAGES, PHOTOGRAPHS, fetch_photographs

DOWNLOAD = 'for package in "$3" "$4"; do echo "$package" > "${package}_1%3a2_all.deb"; done'
# each photograph, some in two sizes, of which the larger one is wanted, and as a PNG, which is no photograph
SIZES = "echo large > {place}/1000x500.jpg; echo s > {place}/200x100.jpg; echo 'even larger' > {place}/x.png"
UNPACK = "\n".join(
    f"mkdir -p {Path(place).parent}; echo large > {place}"
    if place.endswith(".jpg")
    else f"mkdir -p {place}; {SIZES.format(place=place)}"
    for place in PHOTOGRAPHS.values()
)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found, beside the system's for what the scripts in it call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr("shutil.which", lambda name: str(folder / name) if (folder / name).exists() else None)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def write_program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def error(scratch: Path) -> str:
    with pytest.raises(UserError) as caught:
        fetch_photographs(scratch)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(", or give --demo.photographs=FOLDER, a folder of large photographs of your own")
    return str(caught.value)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_system_without_the_programs(programs: Path, scratch: Path) -> None:
    assert error(scratch).startswith("demo.set=photos: there is no apt-get here; want Debian or Ubuntu")
    write_program(programs, "apt-get", "exit 9")
    assert error(scratch).startswith("demo.set=photos: there is no dpkg-deb here; want Debian or Ubuntu")


@pytest.mark.slow
def test_photographs_in_what_is_unpacked(programs: Path, scratch: Path) -> None:
    write_program(programs, "apt-get", DOWNLOAD)
    write_program(programs, "dpkg-deb", f'test -f "$2" || exit 3\n{UNPACK}')
    found = fetch_photographs(scratch)
    assert list(found) == list(PHOTOGRAPHS)
    assert len(found) == 20
    assert all(path.read_text() == "large\n" for path in found.values())
    assert not list(scratch.glob("*.deb"))


@pytest.mark.slow
def test_what_fails_is_one_line(programs: Path, scratch: Path) -> None:
    write_program(programs, "dpkg-deb", "echo 'dpkg-deb: error: no room' >&2; exit 2")
    write_program(programs, "apt-get", "echo 'W: odd' >&2; echo 'E: Unable to locate package' >&2; echo 'E: b' >&2; exit 100")
    command = f"`apt-get download -q {' '.join(PACKAGES)}` failed: E: Unable to locate package; `apt-get update` as root"
    assert error(scratch).startswith(command)
    write_program(programs, "apt-get", "exit 100")
    assert "failed: status 100; " in error(scratch)
    write_program(programs, "apt-get", DOWNLOAD)
    assert re.match(
        r"`dpkg-deb -x .*mate-backgrounds_1%3a2_all.deb \.` failed: dpkg-deb: error: no room; want ", error(scratch)
    )
    write_program(programs, "dpkg-deb", "exit 0")
    assert "of this release lack usr/share/backgrounds/mate/nature/Aqua.jpg; want those of Debian 12" in error(scratch)
