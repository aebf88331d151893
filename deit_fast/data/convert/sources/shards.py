"""Finds the shards of one split: in a folder, by a pattern, or one file."""

from __future__ import annotations

import glob
import itertools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import LeftOut
from deit_fast.data.convert.sources.walk import files_below
from deit_fast.data.format.braces import expanded_braces, has_braces

SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
PARQUET_ENDINGS = (".parquet",)
_MOST_SHARDS = 1_000_000


@dataclass(frozen=True)
class Shards:
    """Files by their names below the folder or pattern, sorted; and what else lies in the folder."""

    files: dict[str, Path]
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def num_left_out(self) -> int:
        return sum(entry.num_files for entry in self.left_out)


def split_of(name: str) -> str | None:
    """The split that a word in a shard's path tells: in the file's name, else in a folder's, the innermost first."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in SPLIT_OF_WORD:
                return SPLIT_OF_WORD[word]
    return None


def find_shards(path: str, endings: tuple[str, ...]) -> Shards:
    """Files with these endings below a folder, links followed; those of a pattern, with any ending; or the one file.

    A pattern has *, ? and [] as in a shell, and {0000..0012} or {a,b} for several names, which must all exist.
    Raises UserError if there are none, or one of these is missing.
    """
    root = Path(path)
    if root.is_file():
        return Shards({root.name: root})
    patterns = f"'shards/*{endings[0]}' or 'train-{{0000..0012}}{endings[0]}'"
    wanted = f"want a folder with shards, one shard, or a pattern such as {patterns}"
    if not root.is_dir():
        files = _of_pattern(path, wanted)
        if not files:
            raise UserError(f"{path}: no such file or folder; {wanted}")
        return Shards(files)
    found, left_out = files_below(root)
    hidden = [name for name in found if os.path.basename(name).startswith(".")]  # noqa: PTH119
    others = [name for name in found if not name.lower().endswith(endings)]
    chosen = sorted({*found} - {*hidden, *others})
    if not chosen:
        raise UserError(f"{path}: no files *{' *'.join(endings)} in it; {wanted}")
    left_out += [LeftOut(name, "a hidden file" if name in hidden else "no shard") for name in sorted({*hidden, *others})]
    return Shards({name: root / name for name in chosen}, left_out)


def shards_of_split(path: str, endings: tuple[str, ...], split: str = "auto") -> Shards:
    """The shards of find_shards whose names tell this split. auto: all, if the names tell at most one split; else train.

    Raises UserError if there are none, if only some of the names tell a split, or if none tells the requested split.
    """
    found = find_shards(path, endings)
    splits = {name: split_of(name) for name in found.files}
    present = sorted({told for told in splits.values() if told is not None})
    if not present and split != "auto":
        raise UserError(
            f"source.split={split}: the names of the shards in {path} tell no split (train, val, test): leave it out, or "
            "give a pattern that finds those of the split"
        )
    if split == "auto" and (len(present) <= 1 or len(found.files) == 1) and (not present or None not in splits.values()):
        return found
    untold = [name for name, told in splits.items() if told is None]
    if untold:
        raise UserError(
            f"{path}: {untold[0]!r} and {len(untold) - 1} more shards do not tell their split (train, val, test) as the "
            "others do; rename them, or give a pattern"
        )
    split = "train" if split == "auto" else split
    chosen = {name: file for name, file in found.files.items() if splits[name] == split}
    if not chosen:
        raise UserError(f"{path}: has no shards of source.split={split}; want source.split={' or '.join(present)}")
    return Shards(chosen, found.left_out)


def _of_pattern(path: str, wanted: str) -> dict[str, Path]:
    """The files of a pattern by their names below its last folder before any wildcard."""
    names = list(itertools.islice(expanded_braces(path), _MOST_SHARDS + 1))
    if len(names) > _MOST_SHARDS:
        raise UserError(f"{path}: stands for more than {_MOST_SHARDS:,} shards; {wanted}")
    below = Path(path).parent
    while glob.has_magic(str(below)) or has_braces(str(below)):
        below = below.parent
    files = []
    for name in names:
        found = [name] if Path(name).is_file() else sorted(glob.glob(name))  # noqa: PTH207
        found = [file for file in found if not Path(file).name.startswith(".") and Path(file).is_file()]
        if not found and len(names) > 1:
            raise UserError(f"{path}: there is no {name}; {wanted}")
        files += found
    return {os.path.relpath(file, below): Path(file) for file in sorted(set(files))}
