"""Maps the labels of a validation set to the classes that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format.beton import Beton


def training_labels(
    val: Beton, classes: Sequence[str] | None, *, num_classes: int, trained_on: str
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
            raise UserError(f"{val.path}: has label {largest}, while {trained_on} has {num_classes} classes")
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
            f"{val.path}: has {len(theirs)} classes and {trained_on} has {len(ours)}; class {label} of the former, "
            f"{theirs[label]!r}, {problem}; {remedy}"
        )
    last = [len(ours) - 1 - place for place in reversed(_places(theirs[::-1], ours[::-1]))]
    for label, (one, other) in enumerate(zip(first, last, strict=True)):
        if one != other:
            raise UserError(
                f"{val.path}: has {len(theirs)} classes and {trained_on} has {len(ours)}, some of one name: class {label} of "
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
