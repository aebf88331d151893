"""Maps labels by the names of their classes: of betons to those of a set, of a validation set to those of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format.beton import Beton


class Labelled(Protocol):
    """A beton, or a set of them, as far as its labels go. `name`: for errors."""

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    @property
    def labels(self) -> NDArray[np.int64]: ...


def training_labels(
    val: Labelled, classes: Sequence[str] | None, *, num_classes: int, trained_on: str
) -> NDArray[np.int64] | None:
    """For each label of `val` the label of its class in training, (classes of val,); None if all labels stay the same.

    classes: names of the num_classes classes in training, None if unknown. trained_on: their origin, for errors. The classes
    of `val` are matched by name and must be all training classes, or some of them in the same order. If either side has no
    names, labels stay. Raises UserError for other classes, for ambiguous repeated names, and, without names, for a label
    beyond num_classes.
    """
    if classes is None or val.classes is None:
        largest = int(val.labels.max())
        if largest >= num_classes:
            raise UserError(f"{val.name}: has label {largest}, while {trained_on} has {num_classes} classes")
        return None
    theirs, ours = list(val.classes), list(classes)
    if theirs == ours:
        return None
    remedy = "want the same classes in both, or in the former some of the latter's in the same order"
    first = _places(theirs, ours)
    if len(first) < len(theirs):
        label = len(first)
        problem = "is in another place there" if theirs[label] in ours else "is not there"
        raise UserError(
            f"{val.name}: has {len(theirs)} classes and {trained_on} has {len(ours)}; class {label} of the former, "
            f"{theirs[label]!r}, {problem}; {remedy}"
        )
    last = [len(ours) - 1 - place for place in reversed(_places(theirs[::-1], ours[::-1]))]
    for label, (one, other) in enumerate(zip(first, last, strict=True)):
        if one != other:
            raise UserError(
                f"{val.name}: has {len(theirs)} classes and {trained_on} has {len(ours)}, some of one name: class {label} of "
                f"the former, {theirs[label]!r}, may be {one} or {other} there; want all classes in both, also those "
                "without images"
            )
    return np.array(first)


def _places(wanted: Iterable[str], names: Sequence[str]) -> list[int]:
    """The earliest position of each wanted name in names after the position of the one before; stops at the first that is
    missing."""
    places: list[int] = []
    for name in wanted:
        try:
            places.append(names.index(name, places[-1] + 1 if places else 0))
        except ValueError:
            break
    return places


def union_of_classes(betons: Sequence[Beton]) -> tuple[tuple[str, ...] | None, list[NDArray[np.int64] | None]]:
    """The classes of several betons together, by name, and for each beton the new label of each of its labels.

    The former is None where no beton has names; the latter None where labels stay. Betons with the same names keep them. Else
    all names are sorted if those of each beton are, as image folders have them; if not, they stand in the order in which the
    betons name them first. Raises UserError where labels of betons with and without names, or repeated names, are ambiguous.
    """
    named = [beton for beton in betons if beton.classes is not None]
    if not named:
        return None, [None] * len(betons)
    first = named[0]
    other = next((beton for beton in named if beton.classes != first.classes), None)
    if other is None:
        _check_unnamed(betons, first)
        return first.classes, [None] * len(betons)
    unnamed = next((beton for beton in betons if beton.classes is None), None)
    if unnamed is not None:
        raise UserError(
            f"{unnamed.path}: has no class names, while {first.path} and {other.path} have different ones, so that its labels "
            "may mean either; want a manifest beside it, or betons of the same classes"
        )
    for beton in named:
        _check_names(beton, first if beton is not first else other)
    lists = [list(beton.classes or ()) for beton in named]
    union = list(dict.fromkeys(name for names in lists for name in names))
    if all(names == sorted(names) for names in lists):
        union.sort()
    places = {name: place for place, name in enumerate(union)}
    return tuple(union), [np.array([places[name] for name in names]) for names in lists]


def _check_unnamed(betons: Sequence[Beton], named: Beton) -> None:
    """Raises UserError if a beton without names has a label beyond the classes of the others."""
    for beton in betons:
        largest = int(beton.labels.max())
        if beton.classes is None and largest >= named.num_classes:
            raise UserError(
                f"{beton.path}: has label {largest} and no class names, {named.path} has {named.num_classes} classes; want "
                "betons of the same classes"
            )


def _check_names(beton: Beton, other: Beton) -> None:
    """Raises UserError if a beton, which has other classes than the other, has two of one name."""
    counts = Counter(beton.classes)
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{beton.path}: has {count} classes named {name!r}, and other classes than {other.path}, so that names do not tell "
            "which are the same; want betons of the same classes, or names that differ"
        )
