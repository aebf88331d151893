"""Counts the cores that this process may keep busy: the minimum of affinity, cgroups and the parent process's limit.

A quota of the cgroup's CPU controller (docker run --cpus, a pod's limits.cpu, systemd's CPUQuota) is invisible to
os.sched_getaffinity and os.cpu_count.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

VARIABLE = "DEIT_FAST_CORES"  # in the environment: cores that whoever started this process leaves to it


def num_cores(proc: Path = Path("/proc/self")) -> int:
    """Cores that this process may keep busy, at least 1. proc: folder in which Linux describes the process.

    A quota is rounded down. If more threads run than a quota allows, the kernel stops all of them for the rest of each period,
    also threads that others wait for at a barrier; a fraction of a core is not worth that.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get(VARIABLE, "")
    if given.isdecimal() and int(given) > 0:
        cores = min(cores, int(given))
    return max(1, math.floor(min(cores, quota(proc))))


def quota(proc: Path = Path("/proc/self")) -> float:
    """CPU quota of the process's cgroups in cores: the smallest of its own group and all above; infinity: no limit."""
    try:
        groups, mounts = (proc / "cgroup").read_text(), (proc / "mountinfo").read_text()
    except OSError:  # not Linux, or no /proc
        return math.inf
    paths = dict(_cpu_groups(groups))
    quotas = [math.inf]
    for kind, root, mounted in _cpu_mounts(mounts):
        if kind in paths:
            quotas += [_quota_of(folder) for folder in _folders(mounted, root, paths[kind])]
    return min(quotas)


def _cpu_groups(text: str) -> Iterator[tuple[str, str]]:
    """(kind of hierarchy, the process's place in it) of a text as in /proc/self/cgroup, where CPU time may be limited."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield "cgroup2", path
        elif "cpu" in controllers.split(","):
            yield "cgroup", path


def _cpu_mounts(text: str) -> Iterator[tuple[str, str, Path]]:
    """(kind, the part of the hierarchy that is mounted, where) of each in a text as in /proc/self/mountinfo."""
    for line in text.splitlines():
        place, _, source = line.partition(" - ")
        root, mounted = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word) for word in place.split()[3:5])
        kind, *_, options = source.split()
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield kind, root, Path(mounted)


def _folders(mounted: Path, root: str, path: str) -> Iterator[Path]:
    """The folders of a group and of the groups above it that are mounted here.

    A container may see its own group mounted as the root, under the path that the group has outside, or its group may lie
    outside the mounted part: then the mounted part counts.
    """
    group = PurePosixPath(path)
    inside = group.relative_to(root) if group.is_relative_to(root) and ".." not in group.parts else PurePosixPath()
    while True:
        yield mounted / inside
        if inside == PurePosixPath():
            return
        inside = inside.parent


def _quota_of(folder: Path) -> float:
    """CPU quota of one group in cores."""
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no limit ("max"), no such group here, or no such controller
        return math.inf
