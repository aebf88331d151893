"""Lists the files below a folder, links followed: a file once for each path without a circle that leads to it."""

from __future__ import annotations

import os
from pathlib import Path

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import IN_A_CIRCLE, LeftOut
from deit_fast.data.convert.sources.file_names import is_system_folder


def files_below(root: Path, prefix: str = "", inside: Path | None = None) -> tuple[list[str], list[LeftOut]]:
    """Paths of everything below root except folders, in the order of torchvision's ImageFolder; and the folders left out.

    Both begin with the prefix. Hidden and system folders are left out, each with the number of its files, as are links to a
    folder that they lie in, `inside` included. A broken link counts as a file: reading it says what is wrong.

    Raises UserError for a folder that cannot be read.
    """
    files: list[tuple[str, str]] = []
    left_out: list[LeftOut] = []
    try:
        to_do = [("", frozenset() if inside is None else frozenset({_identity(str(inside))}))]
        while to_do:
            below, above = to_do.pop()
            folder = f"{root}/{below}" if below else str(root)
            if _identity(folder) in above:
                left_out.append(LeftOut(prefix + below, IN_A_CIRCLE))
                continue
            found, folders, system = entries_of(folder)
            files += [(below, name) for name in found]
            path = f"{below}/" if below else ""
            left_out += [entry._replace(name=f"{prefix}{path}{entry.name}") for entry in system]
            to_do += [(path + name, above | {_identity(folder)}) for name in folders]
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error
    # torchvision sorts the paths of the folders, and in each the names
    files.sort()
    return [f"{prefix}{below}/{name}" if below else prefix + name for below, name in files], sorted(left_out)


def entries_of(folder: str | Path) -> tuple[list[str], list[str], list[LeftOut]]:
    """Names of the files and folders in a folder, and its hidden and system folders. Raises OSError."""
    files, folders, system = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _is_folder(entry):
                files.append(entry.name)
            elif is_system_folder(entry.name):
                num_files = sum(len(names) for _, _, names in os.walk(entry.path))
                system.append(LeftOut(f"{entry.name}/", "hidden or system folder", num_files))
            else:
                folders.append(entry.name)
    return sorted(files), sorted(folders), sorted(system)


def is_in_a_circle(folder: Path, inside: Path) -> bool:
    """Whether a folder is a link to a folder that it lies in."""
    return _identity(str(folder)) == _identity(str(inside))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116  (of a million folders)
    return status.st_dev, status.st_ino
