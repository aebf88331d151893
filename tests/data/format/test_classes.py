"""Labels of a validation set whose classes are some of the training set's, by name."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.config import UserError
from deit_fast.data.format.beton import Beton
from deit_fast.data.format.classes import training_labels

Classes = tuple[str, ...] | None


def _beton(classes: Classes, labels: list[int]) -> Beton:
    empty = np.zeros(0, np.uint64)
    small = (empty.astype(np.uint16), empty.astype(np.uint16), empty.astype(np.uint8))
    return Beton(Path("v"), ("image", "label"), len(labels), classes, np.array(labels), *small, empty, empty)


def _labels(train: Classes, val: Beton, num_classes: int = 2) -> list[int] | None:
    found = training_labels(val, train, num_classes=num_classes if train is None else len(train), trained_on="t")
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("train", "val", "wanted"),
    [
        (("cat", "dog"), _beton(("cat", "dog"), [0]), None),
        (None, _beton(None, [1]), None),
        (("cat", "dog"), _beton(None, [1]), None),
        (("crane", "dog", "crane"), _beton(("crane", "dog", "crane"), [0]), None),
        (("cat", "dog", "elk"), _beton(("cat", "elk"), [0]), [0, 2]),
        (("crane", "dog", "elk", "crane"), _beton(("crane", "elk", "crane"), [0]), [0, 2, 3]),
        (("crane", "dog", "crane"), _beton(("dog", "crane"), [0]), [1, 2]),
    ],
)
def test_classes_are_found_by_name(train: Classes, val: Beton, wanted: list[int] | None) -> None:
    assert _labels(train, val) == wanted


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (
            ("cat", "dog"),
            _beton(("cat", "elk"), [0]),
            "v: has 2 classes and t has 2; class 1 of the former, 'elk', is not there",
        ),
        (("cat", "dog"), _beton(("dog", "cat"), [0]), "class 1 of the former, 'cat', is in another place there"),
        (("cat",), _beton(("cat", "dog"), [0]), "v: has 2 classes and t has 1; class 1 of the former, 'dog', is not there"),
        (("crane", "dog", "crane"), _beton(("crane",), [0]), "class 0 of the former, 'crane', may be 0 or 2 there"),
        (None, _beton(("cat", "dog", "elk"), [2]), "v: has label 2, while t has 2 classes"),
        (None, _beton(None, [0, 7]), "v: has label 7, while t has 2 classes"),
    ],
)
def test_other_classes_are_refused(train: Classes, val: Beton, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _labels(train, val)


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abcd"), min_size=1, max_size=4))
def test_labels_are_the_only_ones_that_keep_names_and_order(train: list[str], val: list[str]) -> None:
    choices = itertools.combinations(range(len(train)), len(val))
    answers = [list(places) for places in choices if [train[place] for place in places] == val]
    beton = _beton(tuple(val), [0])
    if len(answers) == 1:
        found = _labels(tuple(train), beton)
        assert (list(range(len(val))) if found is None else found) == answers[0]
    else:
        with pytest.raises(UserError, match="may be" if answers else r"is not there|in another place"):
            _labels(tuple(train), beton)
