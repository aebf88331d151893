"""Computes digests of a beton's labels and stored images, which tell whether two betons are the same for training."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from deit_fast.data.format.beton import Beton
from deit_fast.data.format.files import read_at
from deit_fast.data.format.index import read_index

_NUM_PROBED = 256
_PROBED_BYTES = 1 << 16


def identity(beton: Beton, *, with_places: bool = False) -> dict[str, str]:
    """SHA-256, in hexadecimal, of a beton's "labels" and "images"; independent of the file's path.

    For our betons, hashes the digests of the images in the index. For others, hashes the size, width, height and mode of each
    image, and the first 64 KiB of 256 evenly spread images: reading the whole data set at each start would take too long.
    with_places: include the offset of each image, because data.order=pages depends on it.
    """
    images = hashlib.sha256()
    index = read_index(beton)
    if index is not None:
        images.update(index.rows["digest"].tobytes())
    else:
        for column in (beton.sizes, beton.widths, beton.heights, beton.modes):
            images.update(_little_endian(column))
        for content in _probed(beton):
            images.update(content)
    if with_places:
        images.update(_little_endian(beton.offsets))
    return {"labels": labels_digest(beton), "images": images.hexdigest()}


def labels_digest(beton: Beton) -> str:
    """SHA-256, in hexadecimal, of all labels in their order."""
    return hashlib.sha256(_little_endian(beton.labels)).hexdigest()


def _little_endian(column: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    return column.astype(column.dtype.newbyteorder("<")).tobytes()


def _probed(beton: Beton) -> list[bytes]:
    samples = np.unique(np.linspace(0, beton.num_samples - 1, _NUM_PROBED).astype(np.int64))
    with beton.path.open("rb") as file:
        return [
            read_at(file.fileno(), min(_PROBED_BYTES, int(beton.sizes[sample])), int(beton.offsets[sample]))
            for sample in samples
        ]
