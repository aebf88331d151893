"""Joins the classes of several betons by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format.beton import Beton


def union_of_classes(betons: Sequence[Beton]) -> tuple[tuple[str, ...] | None, list[NDArray[np.int64]]]:
    """Class names of all betons together, and for each beton the label there of each of its own labels (num_classes,).

    The first beton's classes come first and keep their order, then those that each further beton adds. None if no beton has
    names: labels then mean the same in all. Raises UserError if only some have names, or if a name that stands twice in one
    beton could mean either class because the betons' lists differ.
    """
    named = [beton for beton in betons if beton.classes is not None]
    if not named:
        return None, [np.arange(beton.num_classes) for beton in betons]
    if len(named) < len(betons):
        nameless = next(beton for beton in betons if beton.classes is None)
        raise UserError(
            f"{nameless.path}: has no manifest, so that the names of its classes are unknown, and {named[0].path} has one; "
            "want manifests beside all betons, or beside none"
        )
    lists = [beton.classes or () for beton in betons]
    if all(names == lists[0] for names in lists):
        return lists[0], [np.arange(len(names)) for names in lists]
    for beton, names in zip(betons, lists, strict=True):
        _refuse_repeated(beton, names, betons)
    places: dict[str, int] = {}
    for names in lists:
        for name in names:
            places.setdefault(name, len(places))
    return tuple(places), [np.array([places[name] for name in names], np.int64) for names in lists]


def _refuse_repeated(beton: Beton, names: Sequence[str], betons: Sequence[Beton]) -> None:
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        first, second = [label for label, one in enumerate(names) if one == name][:2]
        other = next(one for one in betons if one.classes != beton.classes)
        raise UserError(
            f"{beton.path}: its classes {first} and {second} are both named {name!r}, and {other.path} has other classes, so "
            "that it is unknown which is meant; want the same classes in all betons, or each name once"
        )
