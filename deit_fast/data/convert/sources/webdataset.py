"""Reads tar shards in WebDataset's layout as a source: one image and one label for each key."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import Accounts, add_up, by_kind
from deit_fast.data.convert.sources.archives import Archive, in_processes
from deit_fast.data.convert.sources.base import Names, Source
from deit_fast.data.convert.sources.class_names import classes_and_labels, read_class_names
from deit_fast.data.convert.sources.file_names import IMAGE_EXTENSIONS
from deit_fast.data.convert.sources.shards import TAR_ENDINGS, shards_of_split
from deit_fast.data.convert.sources.tar_listing import NOWHERE, TarListing, list_tar
from deit_fast.data.convert.sources.webdataset_keys import keys_of
from deit_fast.data.format.files import read_at

JSON_KEYS = ("label", "cls", "class_id")
_MOST_LABEL_BYTES = 1 << 20


class WebDataset(Source):
    """One shard, the shards of a pattern, or those in a folder whose names tell this split; sorted by name.

    webdataset_keys groups files into samples. A label is the content of KEY.cls, or the value of label, cls or class_id in
    KEY.json: a number, or the name of a class. Class names come from the text file `classes`; without one they are the
    numbers, or the names in the shards in alphabetical order.

    Raises UserError if there are no shards, one is damaged, an image has no label or a label no image, numbers and names
    are mixed, or a label is not among the class names.
    """

    def __init__(self, path: str, split: str, classes: str = "") -> None:
        self.location = path
        names = read_class_names(Path(classes)) if classes else None
        shards = shards_of_split(path, TAR_ENDINGS, split)
        self._archives = [Archive(file) for file in shards.files.values()]
        tasks = [(archive.path, archive.size, archive.unpacked_descriptor) for archive in self._archives]
        listed = in_processes(_images_of_shard, tasks)
        self._names = Names(
            f"{shard}/{name}" for shard, of_shard in zip(shards.files, listed, strict=True) for name in of_shard.names
        )
        self._starts = np.cumsum([0, *(len(of_shard.names) for of_shard in listed)], dtype=np.int64)
        if self._starts[-1] == 0:
            wanted = " ".join(IMAGE_EXTENSIONS)
            raise UserError(f"{path}: {len(listed)} shards without images: want files in them that end in {wanted}")
        self._places = np.concatenate([of_shard.places for of_shard in listed])
        labels = [(archive.path, of_shard.labels) for archive, of_shard in zip(self._archives, listed, strict=True)]
        self.classes, self.labels = classes_and_labels(path, labels, names, classes)
        beside = Accounts(shards.num_left_out, left_out=shards.left_out)
        self._accounts = add_up([beside, *(of_shard.accounts for of_shard in listed)])
        self._reading = 0

    def name(self, sample: int) -> str:
        """SHARD/KEY.EXTENSION."""
        return self._names[sample]

    def read(self, sample: int) -> bytes:
        shard = int(np.searchsorted(self._starts, sample, side="right")) - 1
        if shard != self._reading:  # one open file for each process, however many shards there are
            self._archives[self._reading].release()
            self._reading = shard
        offset, size = self._places[sample]
        return self._archives[shard].read(int(offset), int(size), self._names[sample])

    def accounts(self) -> Accounts:
        return self._accounts

    def close(self) -> None:
        for archive in self._archives:
            archive.close()


@dataclass(frozen=True)
class _Shard:
    """Names of the images of a shard in its order, (images, 2) offsets and sizes, and labels: int64, or str as objects."""

    names: list[str]
    places: NDArray[np.int64]
    labels: NDArray[Any]
    accounts: Accounts


def _images_of_shard(task: tuple[Path, int, int | None]) -> _Shard:
    path, size, unpacked = task
    descriptor = os.open(path, os.O_RDONLY) if unpacked is None else unpacked
    try:
        listing = list_tar(descriptor, 0, size, str(path))
        keys = keys_of(listing.names, str(path))
        labels = [_label(path, descriptor, listing, image, keys.labels[image]) for image in keys.labels]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        if unpacked is None:
            os.close(descriptor)
    images = list(keys.labels)
    places = np.array([(listing.offsets[image], listing.sizes[image]) for image in images], dtype=np.int64).reshape(-1, 2)
    left_out = [entry._replace(name=f"{path.name}/{entry.name}") for entry in keys.left_out + listing.left_out()]
    accounts = Accounts(len(listing.names) + len(listing.circles), keys.num_parts, left_out=by_kind(left_out))
    return _Shard([listing.names[image] for image in images], places, _one_kind(path, labels), accounts)


def _one_kind(path: Path, labels: list[int | str]) -> NDArray[Any]:
    """Labels as int64 or as objects. Raises UserError if there are both numbers and names."""
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels):
        return np.array(labels, dtype=np.int64)
    if numbers:
        name = next(label for label in labels if isinstance(label, str))
        raise UserError(f"{path}: has the labels {numbers[0]} and {name!r}: want numbers, or names of classes, not both")
    return np.array(labels, dtype=object)


def _label(path: Path, descriptor: int, listing: TarListing, image: int, label: int) -> int | str:
    """The label in a .cls or .json file: a number from 0 on, or the name of a class."""
    name, offset, size = listing.names[label], listing.offsets[label], listing.sizes[label]
    if offset == NOWHERE:
        raise UserError(f"{path}: {name!r}, the label of {listing.names[image]!r}, is a link that leads nowhere in the shard")
    content = read_at(descriptor, min(size, _MOST_LABEL_BYTES), offset)
    is_document = name.lower().endswith(".json")
    found: object = None
    with contextlib.suppress(ValueError, RecursionError):
        found = _value_in(json.loads(content)) if is_document else content.decode().strip()
    if isinstance(found, str) and _is_number(found):
        found = int(found)
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**31:
        return found
    if isinstance(found, str) and found and not _is_number(found) and found.isprintable():
        return found
    where = f" under {', '.join(JSON_KEYS[:-1])} or {JSON_KEYS[-1]}" if is_document else ""
    raise UserError(f"{path}: {name!r} has no label: want a number from 0 on, or the name of a class{where}")


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii()


def _value_in(document: object) -> object:
    """The label in a JSON document; None if it has none."""
    for key in JSON_KEYS:
        if isinstance(document, dict) and key in document:
            value = document[key]
            return value.strip() if isinstance(value, str) else value
    return None
