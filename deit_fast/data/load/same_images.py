"""Checks that two sets of betons hold the same images in the same order, stored at other sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.load.batches import ShownSet
from deit_fast.data.load.decode import ViewDecoder
from deit_fast.data.load.threading_layer import one_at_a_time
from deit_fast.kernels import crop, decode
from deit_fast.kernels.resample import BICUBIC

_NUM_COMPARED = 64  # images whose pixels are compared, evenly spread
_SIDE = 8  # in pixels, of the grey pictures of them that are
# Mean over such a picture, in grey levels. Photographs at a side of 192 differ by 0.2 on average and 1 at most, images of 23x4
# pixels by up to 8; different crops of one photograph by 22.
_LARGEST_DIFFERENCE = 10.0
_REMEDY = "want the same images in the same order, written smaller by deit-fast write from the same source"


def check_same_images(one: ShownSet, other: ShownSet) -> None:
    """Raises UserError, with the difference, if `other` cannot stand in for `one`.

    Compared are the numbers of images, class names, all labels, the proportions of all images, and the pixels of 64 images,
    evenly spread, in grey at 8 x 8 pixels. Of files that are still being copied only the first is read.
    """
    ours, theirs = one.images.beton, other.images.beton
    _check_metadata(ours, theirs)
    count = min(ours.num_samples, *(_num_readable(shown) for shown in (one, other)))
    samples = np.unique(np.linspace(0, count - 1, _NUM_COMPARED).astype(np.int64))
    (our_pictures, is_ours), (their_pictures, is_theirs) = (_small_pictures(shown, samples) for shown in (one, other))
    differences = np.abs(our_pictures - their_pictures).mean((1, 2)) * (is_ours & is_theirs)
    worst = int(differences.argmax())
    if differences[worst] > _LARGEST_DIFFERENCE:
        raise UserError(
            f"{theirs.name}: its {theirs.described(int(samples[worst]))} looks unlike that of {ours.name}, by "
            f"{differences[worst]:.0f} grey levels on average; {_REMEDY}"
        )


def _check_metadata(ours: BetonSet, theirs: BetonSet) -> None:
    if theirs.num_samples != ours.num_samples:
        raise UserError(
            f"{theirs.name}: has {theirs.num_samples:,} images, and {ours.name} has {ours.num_samples:,}; {_REMEDY}"
        )
    if theirs.classes is not None and ours.classes is not None and theirs.classes != ours.classes:
        raise UserError(f"{theirs.name}: has {_first_difference(theirs.classes, ours.classes)} in {ours.name}; {_REMEDY}")
    differ = theirs.labels != ours.labels
    if differ.any():
        sample = int(differ.argmax())
        raise UserError(
            f"{theirs.name}: {theirs.described(sample)} has label {theirs.labels[sample]}, and {ours.labels[sample]} in "
            f"{ours.name}, as {int(differ.sum()):,} labels differ; {_REMEDY}"
        )
    differ = _differ_in_proportions(ours, theirs)
    if differ.any():
        sample = int(differ.argmax())
        sizes = [f"{betons.widths[sample]}x{betons.heights[sample]}" for betons in (theirs, ours)]
        raise UserError(
            f"{theirs.name}: {theirs.described(sample)} is {sizes[0]}, and {sizes[1]} in {ours.name}, so that one is not the "
            f"other scaled, as {int(differ.sum()):,} images are not; {_REMEDY}"
        )


def _first_difference(theirs: tuple[str, ...], ours: tuple[str, ...]) -> str:
    pairs = enumerate(zip(theirs, ours, strict=False))
    for label, (their_name, our_name) in pairs:
        if their_name != our_name:
            return f"class {label} named {their_name!r}, which is {our_name!r}"
    return f"{len(theirs):,} classes, of which there are {len(ours):,}"


def _differ_in_proportions(ours: BetonSet, theirs: BetonSet) -> NDArray[np.bool_]:
    """For each image (num_samples,) whether no factor makes both sides of the larger one those of the smaller, to a pixel."""
    sides = [np.stack([betons.widths, betons.heights]).astype(np.int64) for betons in (ours, theirs)]
    is_smaller = sides[1].sum(0) < sides[0].sum(0)
    smaller, larger = np.where(is_smaller, sides[1], sides[0]), np.where(is_smaller, sides[0], sides[1])
    lowest, highest = ((smaller - 1) / larger).max(0), ((smaller + 1) / larger).min(0)
    differ: NDArray[np.bool_] = lowest > highest
    return differ


def _num_readable(shown: ShownSet) -> int:
    """Number of images, from the first on, that are on this machine."""
    return shown.images.beton.num_samples if shown.arrivals is None else shown.images.beton.stretches[0].num_samples


def _small_pictures(shown: ShownSet, samples: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Grey levels (n, 8, 8) of some images, and which of them decode (n,)."""
    images, count = shown.images, len(samples)
    ids, stored = samples.astype(np.uint64), np.empty((count, decode.STORED_LENGTH), np.int64)
    plans, views = np.zeros((count, crop.PLAN_LENGTH), np.int64), np.empty((count, _SIDE, _SIDE, 3), np.uint8)
    statuses = np.empty(count, np.int32)
    images.locate(ids, stored)
    plans[:, 2:6] = _SIDE  # of the whole image, whatever its proportions
    plans[:, 2], plans[:, 3] = stored[:, decode.HEIGHT], stored[:, decode.WIDTH]
    decoder = ViewDecoder(images, _SIDE, BICUBIC, num_workers=1)
    with one_at_a_time():
        decoder.decode(ids, stored, plans, views, statuses)
    return views.mean(3), statuses == 0  # colours are stored at half the resolution
