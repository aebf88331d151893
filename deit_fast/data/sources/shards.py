"""Takes a folder, a file or a pattern of shards, gives the shards of one split; takes labels, gives their class names."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from deit_fast.config import UserError

SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_of(name: str) -> str | None:
    """The split that the path of a shard tells: by a word of the file's name, else of a folder's, the innermost first."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in SPLIT_OF_WORD:
                return SPLIT_OF_WORD[word]
    return None


def find_shards(path: str, ending: str) -> dict[str, Path]:
    """Files of this ending by their name below path, sorted: all below a folder, those of a pattern, or the one file.

    Raises UserError where there are none.
    """
    root = Path(path)
    if root.is_file():
        return {root.name: root}
    if root.is_dir():
        found = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.name.endswith(ending)}
    else:
        below = root.parent
        while glob.has_magic(str(below)):
            below = below.parent
        found = {Path(file).relative_to(below).as_posix(): Path(file) for file in glob.glob(path)}  # noqa: PTH207
    found = {name: file for name, file in sorted(found.items()) if not file.name.startswith(".") and file.is_file()}
    if not found:
        what = "no such file or folder" if not root.is_dir() else f"no files *{ending} in it"
        raise UserError(f"{path}: {what}; want a folder with shards, one shard, or a pattern such as 'shards/*{ending}'")
    return found


def shards_of_split(path: str, ending: str, split: str) -> dict[str, Path]:
    """The shards of find_shards whose names tell this split; all of them where there is but one or no name tells any.

    Raises UserError where there are none, and where only some of the names tell a split.
    """
    found = find_shards(path, ending)
    if Path(path).is_file():
        return found
    splits = {name: split_of(name) for name in found}
    present = sorted({told for told in splits.values() if told is not None})
    if not present:
        return found
    untold = [name for name, told in splits.items() if told is None]
    if untold:
        raise UserError(
            f"{path}: {untold[0]!r} and {len(untold) - 1} more shards do not tell their split (train, val, test) as the "
            "others do; rename them, or give a pattern"
        )
    chosen = {name: file for name, file in found.items() if splits[name] == split}
    if not chosen:
        raise UserError(f"{path}: has no shards of source.split={split}; want source.split={' or '.join(present)}")
    return chosen


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names from a UTF-8 text file, one a line. Raises UserError where it cannot be read, is empty or has a blank or
    double line."""
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"source.classes={path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise UserError(f"source.classes={path}: cannot be read: {error.strerror}") from error
    names = [name.strip() for name in names]
    if not names:
        raise UserError(f"source.classes={path}: is empty: want a class name a line")
    lines: dict[str, int] = {}
    for line, name in enumerate(names, 1):
        if not name:
            raise UserError(f"source.classes={path}: line {line} is blank: want a class name a line")
        if name in lines:
            raise UserError(f"source.classes={path}: lines {lines[name]} and {line} are both {name!r}: want each name once")
        lines[name] = line
    return tuple(names)


def names_for_labels(location: str, largest: int, names: Sequence[str] | None, origin: str) -> tuple[str, ...]:
    """names, which come from `origin`, or the decimal numbers up to the largest label where there are none.

    Raises UserError where there are fewer names than labels.
    """
    if names is None:
        return tuple(str(label) for label in range(largest + 1))
    if largest >= len(names):
        raise UserError(
            f"{location}: has the label {largest}, and {origin} {len(names)} class names: want at least {largest + 1}"
        )
    return tuple(names)
