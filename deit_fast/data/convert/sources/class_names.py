"""Finds the class names of a source, in a text file or its own labels, and turns labels into positions in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.sources.walk import entries_of

TAR = ".tar"


def read_class_names(path: Path, option: str = "source.classes") -> tuple[str, ...]:
    """Class names from a UTF-8 text file, one per line, or the sorted names of the folders in a folder, else of its tars.

    A name may occur twice, as crane and maillot do in ImageNet's list.
    Raises UserError if it cannot be read, is empty or has a blank line.
    """
    try:
        if path.is_dir():
            return _folder_names(path, option)
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{option}={path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise UserError(f"{option}={path}: cannot be read: {error.strerror}") from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise UserError(f"{option}={path}: is empty: want a class name a line")
    if "" in names:
        raise UserError(f"{option}={path}: line {names.index('') + 1} is blank: want a class name a line")
    return tuple(names)


def _folder_names(path: Path, option: str) -> tuple[str, ...]:
    files, folders, _ = entries_of(path)
    names = folders or [name[: -len(TAR)] for name in files if name.endswith(TAR)]
    if not names:
        raise UserError(f"{option}={path}: has no folders: want one for each class, or a text file with their names")
    return tuple(names)


def positions(wanted: Sequence[str], names: Sequence[str], location: str, origin: str) -> NDArray[np.int32]:
    """The position of each wanted name among names.

    Raises UserError with `location` if the names, which come from `origin`, lack a wanted name or have it twice.
    """
    counts, position = Counter(names), {name: number for number, name in enumerate(names)}
    for name in wanted:
        if counts[name] == 0:
            raise UserError(f"{location}: the class {name!r} is none of the {len(names)} class names of {origin}")
        if counts[name] > 1:
            raise UserError(
                f"{location}: the class {name!r} stands {counts[name]} times in {origin}: want it once, or numbers as labels"
            )
    return np.array([position[name] for name in wanted], dtype=np.int32)


def classes_and_labels(
    location: str, labels: Sequence[tuple[Path, NDArray[Any]]], names: Sequence[str] | None, origin: str
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Class names, and labels as positions in them. labels: for each shard, int64 from 0 on, or strings as objects.

    Without `names`, which come from `origin`, numbers are their own names, and strings are sorted. Raises UserError if some
    shards have numbers and others strings, or if the names lack a label.
    """
    filled = [(path, of_shard) for path, of_shard in labels if len(of_shard)]
    for path, of_shard in filled:
        if of_shard.dtype.kind != filled[0][1].dtype.kind:
            raise UserError(
                f"{path}: its labels are {_kind(of_shard)}, those of {filled[0][0]} {_kind(filled[0][1])}: want one"
            )
    found = np.concatenate([of_shard for _, of_shard in filled])
    if found.dtype.kind == "i":
        return names_for_labels(location, int(found.max()), names, origin), found.astype(np.int32)
    distinct, numbers = np.unique(found, return_inverse=True)
    if names is None:
        return tuple(str(name) for name in distinct), numbers.astype(np.int32)
    return tuple(names), positions([str(name) for name in distinct], names, location, origin)[numbers]


def _kind(labels: NDArray[Any]) -> str:
    return "numbers" if labels.dtype.kind == "i" else "names of classes"


def names_for_labels(location: str, largest: int, names: Sequence[str] | None, origin: str) -> tuple[str, ...]:
    """The names, which come from `origin`; without them, the decimal numbers up to the largest label.

    Raises UserError if there are fewer names than labels.
    """
    if names is None:
        return tuple(str(label) for label in range(largest + 1))
    if largest >= len(names):
        raise UserError(
            f"{location}: has the label {largest}, and {origin} {len(names)} class names: want at least {largest + 1}"
        )
    return tuple(names)
