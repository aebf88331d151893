"""Takes tar shards in WebDataset's layout, gives them as a source: one image and one label for each key."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.sources.archives import Archive, in_processes, pread, tar_members
from deit_fast.data.sources.base import Names, Source
from deit_fast.data.sources.folder import IMAGE_EXTENSIONS
from deit_fast.data.sources.shards import names_for_labels, read_class_names, shards_of_split

JSON_KEYS = ("label", "cls", "class_id")
# of webdataset: the key ends at the first dot of the file's name; a name that starts with a dot has none and is left out
KEY_AND_EXTENSION = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)
Member = tuple[str, int, int]  # name, offset and size
Listed = tuple[list[str], NDArray[np.int64], NDArray[np.int32]]


class WebDataset(Source):
    """The shards of a folder whose names tell this split, of a pattern, or one shard; in the order of their names.

    A key's image is told by its extension, its label is the number in KEY.cls or under label, cls or class_id in
    KEY.json. Class names come from the text file `classes`; without one they are the numbers.

    Raises UserError where there are no shards, one is damaged, a key has no image or no label or several of them, or
    there are fewer class names than labels.
    """

    def __init__(self, path: str, split: str, classes: str = "") -> None:
        self.location = path
        names = read_class_names(Path(classes)) if classes else None
        shards = shards_of_split(path, ".tar", split)
        self._archives = [Archive(file) for file in shards.values()]
        tasks = [(archive.path, archive.size, archive.unpacked_descriptor) for archive in self._archives]
        listed = in_processes(_images_of_shard, tasks)
        self._names = Names(f"{shard}/{name}" for shard, (names, _, _) in zip(shards, listed, strict=True) for name in names)
        self._starts = np.cumsum([0, *(len(images[0]) for images in listed)], dtype=np.int64)
        if self._starts[-1] == 0:
            raise UserError(f"{path}: {len(shards)} shards without images")
        self._places = np.concatenate([places for _, places, _ in listed])
        self.labels = np.concatenate([labels for _, _, labels in listed])
        self.classes = names_for_labels(path, int(self.labels.max()), names, classes)
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

    def close(self) -> None:
        for archive in self._archives:
            archive.close()


def _images_of_shard(task: tuple[Path, int, int | None]) -> Listed:
    """Names of the images of a shard in its order, (images, 2) offsets and sizes, and labels."""
    path, size, unpacked = task
    descriptor = os.open(path, os.O_RDONLY) if unpacked is None else unpacked
    try:
        images, numbers = _members_by_key(path, tar_members(descriptor, 0, size, str(path)))
        labels = [_label(path, descriptor, key, numbers.get(key)) for key in images]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        if unpacked is None:
            os.close(descriptor)
    places = np.array([image[1:] for image in images.values()], dtype=np.int64).reshape(-1, 2)
    return [image[0] for image in images.values()], places, np.array(labels, dtype=np.int32)


def _members_by_key(path: Path, members: tuple[list[str], list[int], list[int]]) -> tuple[dict[str, Member], dict[str, Member]]:
    """The image of each key, in the order of the shard, and its .cls file or, without one, its .json file."""
    of_ending: dict[str, dict[str, Member]] = {"image": {}, "cls": {}, "json": {}}
    for member in zip(*members, strict=True):
        match = KEY_AND_EXTENSION.fullmatch(member[0])
        if match is None:
            continue
        key, extension = match[1], match[2].lower()
        by_key = of_ending.get("image" if f".{extension}" in IMAGE_EXTENSIONS else extension)
        if by_key is None:
            continue
        if key in by_key:
            raise UserError(f"{path}: key {key!r} has {by_key[key][0]!r} and {member[0]!r}: want one of them")
        by_key[key] = member
    images, numbers = of_ending["image"], {**of_ending["json"], **of_ending["cls"]}
    without = next((key for key in numbers if key not in images), None)
    if without is not None:
        raise UserError(f"{path}: key {without!r} has no image: want one of {' '.join(IMAGE_EXTENSIONS)}")
    return images, numbers


def _label(path: Path, descriptor: int, key: str, member: Member | None) -> int:
    """The number in the .cls or .json file of a key."""
    if member is None:
        raise UserError(f"{path}: key {key!r} has no label: want {key}.cls or {key}.json with a number")
    name, offset, size = member
    content = pread(descriptor, offset, size)
    is_document = name.lower().endswith(".json")
    try:
        found = _number_in(json.loads(content)) if is_document else int(content)
    except (ValueError, RecursionError):
        found = None
    if found is None or not 0 <= found < 2**31:
        where = f" under {', '.join(JSON_KEYS[:-1])} or {JSON_KEYS[-1]}" if is_document else ""
        raise UserError(f"{path}: key {key!r}: {name!r} has no label: want a number from 0 on{where}")
    return found


def _number_in(document: object) -> int | None:
    """The label in a JSON document; None where it has none."""
    for key in JSON_KEYS:
        if isinstance(document, dict) and key in document:
            number = document[key]
            return number if isinstance(number, int) and not isinstance(number, bool) else None
    return None
