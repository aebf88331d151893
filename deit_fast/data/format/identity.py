"""Computes digests of labels and stored images, which tell whether two betons, or sets of them, are the same for training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.format.beton import Beton, manifest_path
from deit_fast.data.format.beton_set import BetonSet, Stretch, set_of
from deit_fast.data.format.files import read_at
from deit_fast.data.format.index import read_index

_NUM_PROBED = 256
_PROBED_BYTES = 1 << 16


def identity(betons: Beton | BetonSet, *, with_places: bool = False) -> dict[str, str]:
    """SHA-256, in hexadecimal, of "labels" and "images", in the order of the samples; independent of the files' paths.

    Shards have the digests of the one beton of the same samples: the views are the same. For our betons, hashes the digests of
    the images in the index. For others, hashes the size, width, height and mode of each image, and the first 64 KiB of 256
    evenly spread images: reading the whole data set at each start would take too long. with_places: include the place of each
    image, because data.order=pages depends on it.
    """
    betons = set_of(betons)
    images = hashlib.sha256()
    for stretch in betons.stretches:
        for content in _contents(betons, stretch):
            images.update(content)
    if with_places:
        images.update(_little_endian(betons.offsets if betons.places is None else betons.places))
    return {"labels": labels_digest(betons), "images": images.hexdigest()}


def labels_digest(betons: BetonSet) -> str:
    """SHA-256, in hexadecimal, of all labels in their order."""
    return hashlib.sha256(_little_endian(betons.labels)).hexdigest()


def files_of(betons: BetonSet) -> list[dict[str, Any]]:
    """For each file of a set its path, its number of images, how often an epoch shows each (`times`), and the SHA-256 of its
    manifest, None if it has none."""
    times = Counter(stretch.path for stretch in betons.stretches)
    counts = {stretch.path: stretch.num_samples for stretch in betons.stretches}
    return [
        {"path": str(path), "num_images": counts[path], "times": times[path], "manifest": _manifest_digest(path)}
        for path in betons.paths
    ]


def _manifest_digest(path: Path) -> str | None:
    manifest = manifest_path(path)
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else None


def _contents(betons: BetonSet, stretch: Stretch) -> Iterator[bytes]:
    """What tells the images of a file apart."""
    index = read_index(stretch)
    if index is not None:
        yield index.rows["digest"].tobytes()
        return
    own = slice(stretch.first_sample, stretch.first_sample + stretch.num_samples)
    for column in (betons.sizes, betons.widths, betons.heights, betons.modes):
        yield _little_endian(column[own])
    yield from _probed(stretch, betons.sizes[own], betons.offsets[own] - np.uint64(stretch.start))


def _little_endian(column: NDArray[Any]) -> bytes:
    return column.astype(column.dtype.newbyteorder("<")).tobytes()


def _probed(stretch: Stretch, sizes: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> list[bytes]:
    samples = np.unique(np.linspace(0, stretch.num_samples - 1, _NUM_PROBED).astype(np.int64))
    with stretch.path.open("rb") as file:
        return [read_at(file.fileno(), min(_PROBED_BYTES, int(sizes[sample])), int(offsets[sample])) for sample in samples]
