"""Reads which betons `data.train` or another option names: one, several, patterns, weights."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deit_fast.config import UserError, at_home

_WEIGHT = re.compile(r"(.+)\*(\d+)")  # after a path or a pattern
_MANIFEST = ".json"


class Listed(NamedTuple):
    """A beton that an option names, and how often its samples are shown in an epoch."""

    path: Path
    times: int


def listed_betons(text: str, option: str) -> list[Listed]:
    """The betons that a text names: `a.beton`, `a.beton,b.beton`, `shards/*.beton`, `a.beton*2,b.beton`.

    Names are separated by commas. A pattern stands for the files that it matches, sorted by name, without the manifests among
    them. `*2` behind a name shows its samples twice. Where a file has such a name itself, with a comma, `*` or `?`, that file
    is meant. option: for errors. Raises UserError for a pattern without files, an empty name, a weight of 0, and a file that
    is named twice. Whether the others exist is not looked at.
    """
    found: list[Listed] = []
    for name in _names(text, option):
        stem, times = _weighted(name, text, option)
        found += [Listed(path, times) for path in _files(stem, option)]
    twice = [path for path, count in Counter(one.path for one in found).items() if count > 1]
    if twice:
        raise UserError(f"{option}={text}: names {twice[0]} twice; want {twice[0]}*2 to show its samples twice an epoch")
    return found


def absolute(text: str, option: str) -> str:
    """A text that names the same betons, now and in any folder."""
    found = [Listed(one.path.absolute(), one.times) for one in listed_betons(text, option)]
    return ",".join(str(one.path) if one.times == 1 else f"{one.path}*{one.times}" for one in found)


def without_weights(text: str, option: str) -> str:
    """A text that names the same betons, each once."""
    return ",".join(str(one.path) for one in listed_betons(text, option))


def _names(text: str, option: str) -> Iterator[str]:
    """The text cut at its commas, but for those within the name of a file that exists."""
    parts = [text] if _exists(text) else text.split(",")
    first = 0
    while first < len(parts):
        # the shortest that exists, as most do without a comma
        ends = range(first + 1, len(parts) + 1)
        end = next((end for end in ends if _is_there(",".join(parts[first:end]))), first + 1)
        name = ",".join(parts[first:end]).strip()
        if not name:
            raise UserError(f"{option}={text}: an empty name between commas; want paths of betons, separated by one comma each")
        yield name
        first = end


def _weighted(name: str, text: str, option: str) -> tuple[str, int]:
    found = None if _exists(name) else _WEIGHT.fullmatch(name)
    if found is None:
        return name, 1
    if int(found[2]) < 1:
        raise UserError(f"{option}={text}: weight {found[2]} of {found[1]}: want 1 or more, or leave the beton out")
    return found[1], int(found[2])


def _files(stem: str, option: str) -> list[Path]:
    path = at_home(stem)
    if "://" in stem and not _exists(stem):
        raise UserError(
            f"{option}={stem}: is on another machine; want a file here; data.train and data.val copy from addresses"
        )
    if _exists(stem) or not glob.has_magic(path):
        return [Path(path)]
    names = sorted(name for name in glob.glob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207
    files = [Path(name) for name in names if name.removesuffix(_MANIFEST) not in names or not name.endswith(_MANIFEST)]
    if not files:
        raise UserError(f"{option}={stem}: no file has such a name; want betons, made by `deit-fast write`")
    return files


def _is_there(name: str) -> bool:
    """Whether a name, with or without a weight, is that of a file, or a pattern."""
    found = _WEIGHT.fullmatch(name.strip())
    return _exists(name) or (found is not None and _exists(found[1])) or glob.has_magic(name)


def _exists(name: str) -> bool:
    """Whether a file has this very name; one that the system does not take exists nowhere."""
    try:
        return Path(at_home(name.strip())).exists()
    except (OSError, ValueError):
        return False
