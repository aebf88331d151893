"""The number of cores against made-up /proc/self and /sys/fs/cgroup, as hosts and containers show them."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from deit_fast.cores import VARIABLE, num_cores, quota

GROUPS_V1 = "9:name=systemd:/\n4:memory:{path}\n2:{controllers}:{path}\n0::/\n"
V2 = "30 24 0:26 {root} {mounted} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 24 0:27 {root} {mounted} rw,nosuid shared:4 - cgroup cgroup rw,{controllers}\n"
OTHERS = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n25 24 0:5 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def _v2(folder: Path, path: str, limits: dict[str, str], *, root: str = "/", mounted: str = "cgroup") -> Path:
    """What a process in the group `path` sees of a unified hierarchy with limits by group."""
    for group, limit in limits.items():
        (folder / mounted / group).mkdir(parents=True, exist_ok=True)
        (folder / mounted / group / "cpu.max").write_text(f"{limit}\n")
    (folder / "proc").mkdir()
    (folder / "proc" / "cgroup").write_text(f"0::{path}\n")
    where = str(folder / mounted).replace(" ", "\\040")
    (folder / "proc" / "mountinfo").write_text(OTHERS + V2.format(root=root, mounted=where))
    return folder / "proc"


def _v1(folder: Path, path: str, limits: dict[str, tuple[int, int]], *, root: str = "/", controllers: str = "cpu") -> Path:
    """The same of version 1: quota and period by group."""
    for group, numbers in limits.items():
        (folder / "cgroup" / group).mkdir(parents=True, exist_ok=True)
        for name, number in zip(("quota", "period"), numbers, strict=True):
            (folder / "cgroup" / group / f"cpu.cfs_{name}_us").write_text(f"{number}\n")
    (folder / "proc").mkdir()
    (folder / "proc" / "cgroup").write_text(GROUPS_V1.format(path=path, controllers=controllers))
    mount = V1.format(root=root, mounted=folder / "cgroup", controllers=controllers)
    (folder / "proc" / "mountinfo").write_text(OTHERS + mount)
    return folder / "proc"


@pytest.mark.parametrize(
    ("path", "limits", "options", "want"),
    [
        ("/", {".": "max 100000"}, {}, math.inf),
        ("/", {".": "400000 100000"}, {}, 4),  # a container with a namespace of its own
        ("/a/b", {"a": "max 100000", "a/b": "150000 100000"}, {}, 1.5),
        ("/a/b", {"a": "100000 50000", "a/b": "800000 100000"}, {}, 2),  # a group above is tighter
        ("/a/b", {"a/b": "800000 100000", "a/c": "100000 100000"}, {}, 8),  # another group's does not count
        ("/pod/x", {".": "300000 100000"}, {"root": "/pod/x"}, 3),  # the group is mounted as the root of all
        ("/pod/x/y", {".": "300000 100000", "y": "200000 100000"}, {"root": "/pod/x"}, 2),
        ("/../other", {".": "300000 100000"}, {}, 3),  # outside of what the namespace shows
        ("/gone", {".": "300000 100000"}, {}, 3),
        ("/", {".": "300000 100000"}, {"mounted": "with a space"}, 3),
        ("/", {".": "rubbish"}, {}, math.inf),
    ],
)
def test_version_2(path: str, limits: dict[str, str], options: dict[str, str], want: float, tmp_path: Path) -> None:
    assert quota(_v2(tmp_path, path, limits, **options)) == want


@pytest.mark.parametrize(
    ("path", "limits", "options", "want"),
    [
        ("/", {".": (-1, 100000)}, {}, math.inf),
        ("/a/b", {"a": (250000, 100000), "a/b": (-1, 100000)}, {}, 2.5),
        ("/docker/x", {".": (50000, 100000)}, {"root": "/docker/x", "controllers": "cpu,cpuacct"}, 0.5),
        ("/a", {"a": (300000, 100000)}, {"controllers": "cpuset"}, math.inf),  # cpuset is another controller
        ("/a", {"a": (300000, 0)}, {}, math.inf),
    ],
)
def test_version_1(path: str, limits: dict[str, tuple[int, int]], options: dict[str, str], want: float, tmp_path: Path) -> None:
    assert quota(_v1(tmp_path, path, limits, **options)) == want


def test_the_tightest_of_affinity_quota_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    assert num_cores(tmp_path / "no such folder") == 16
    cases = [("64", 16), ("4", 4), ("3.9", 3), ("1.5", 1), ("0.2", 1)]
    for limit, want in cases:
        folder = tmp_path / limit
        folder.mkdir()
        proc = _v2(folder, "/", {".": f"{round(float(limit) * 100000)} 100000"})
        assert num_cores(proc) == want
    proc = tmp_path / "4" / "proc"
    for given, want in (("2", 2), ("9", 4), ("0", 4), ("many", 4), ("", 4)):
        monkeypatch.setenv(VARIABLE, given)
        assert num_cores(proc) == want


@pytest.mark.skipif(not os.access("/proc/self/mountinfo", os.R_OK), reason="no /proc to read")
def test_this_process() -> None:
    assert 1 <= num_cores() <= len(os.sched_getaffinity(0))
