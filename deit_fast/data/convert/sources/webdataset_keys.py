"""Groups the files of a WebDataset shard into samples: an image, its label, and whatever else belongs to it.

webdataset's key ends at the first dot of a file name, but real file names have more dots. So files with the same name up to
the last dot are matched first: `photo.v2.jpg` with `photo.v2.cls`, apart from `photo.v1.jpg` and `photo.v1.cls`. The rest of a
key is matched if only one way is possible, such as `1.image.jpg` with `1.cls`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import LeftOut
from deit_fast.data.convert.sources.file_names import IMAGE_EXTENSIONS, NO_IMAGE, is_image_name, reason_beside_extension

LABEL_EXTENSIONS = (".cls", ".json")  # if a sample has both, the first is the label


@dataclass
class Keys:
    """`labels`: maps the position of each image among the names to that of its label. `num_parts`: number of labels and of
    other files of samples. All other names are left out."""

    labels: dict[int, int] = field(default_factory=dict)
    num_parts: int = 0
    left_out: list[LeftOut] = field(default_factory=list)


def keys_of(names: Iterable[str], location: str) -> Keys:
    """Finds the images and labels among a shard's names, in their order.

    Raises UserError with `location` and the key if an image has no label or several, or a label no image or several.
    """
    by_key: dict[str, list[tuple[int, str]]] = {}
    found = Keys()
    for number, name in enumerate(names):
        start = name.rfind("/") + 1
        dot = name.find(".", start)
        reason = reason_beside_extension(name)
        if dot == start:
            reason = "a name that begins with a dot has no key"
        elif dot < 0:
            reason = reason or NO_IMAGE
        if reason:
            found.left_out.append(LeftOut(name, reason))
            continue
        by_key.setdefault(name[:dot], []).append((number, name))
    for key, members in by_key.items():
        if len(members) == 2 and _is_pair(key, members):  # nearly all are
            (first, name), (second, _) = members
            image, label = (first, second) if is_image_name(name) else (second, first)
            found.labels[image] = label
            found.num_parts += 1
        else:
            _match(key, _Group(members), found, location)
    found.labels = dict(sorted(found.labels.items()))
    return found


def _is_pair(key: str, members: list[tuple[int, str]]) -> bool:
    """Whether two files are an image and a label, both named KEY.EXTENSION."""
    extensions = [name[len(key) :].lower() for _, name in members]
    return any(image in IMAGE_EXTENSIONS and label in LABEL_EXTENSIONS for image, label in (extensions, extensions[::-1]))


class _Group:
    """The files of a key; images and labels by their stem, the name up to its last dot."""

    def __init__(self, members: list[tuple[int, str]]) -> None:
        self.images: dict[str, list[tuple[int, str]]] = {}
        self.labels: dict[str, list[tuple[int, str]]] = {}
        self.others: list[str] = []
        for number, name in members:
            stem, extension = posixpath.splitext(name)
            if is_image_name(name):
                self.images.setdefault(stem, []).append((number, name))
            elif extension.lower() in LABEL_EXTENSIONS:
                self.labels.setdefault(stem, []).append((number, name))
            else:
                self.others.append(name)


def _match(key: str, group: _Group, found: Keys, location: str) -> None:
    """Adds the samples of a key."""
    if not group.images and not group.labels:
        found.left_out += [LeftOut(name, NO_IMAGE) for name in group.others]
        return
    stems = [stem for stem in group.images if stem in group.labels]
    taken: set[int] = set()
    for stem in stems:
        image = _one(group.images[stem], stem, location)
        label = _label(group.labels[stem], stem, location)
        found.labels[image] = label
        taken |= {image, label}
    if not stems:
        image, label = _only(group.images, key, "image", location), _only(group.labels, key, "label", location)
        found.labels[image] = label
        taken = {image, label}
        stems = [key]
    found.num_parts += len(stems) + len(group.others)
    for of_stem in (*group.images.values(), *group.labels.values()):
        for number, name in of_stem:
            if number in taken:
                continue
            stem = posixpath.splitext(name)[0]
            if stem not in stems and not any(stem.startswith(f"{whole}.") for whole in stems):
                raise _incomplete(location, stem, "label" if is_image_name(name) else "image")
            found.num_parts += 1


def _one(members: list[tuple[int, str]], key: str, location: str) -> int:
    """The only member. Raises UserError if there are several."""
    if len(members) > 1:
        raise UserError(f"{location}: key {key!r} has {members[0][1]!r} and {members[1][1]!r}: want one of them")
    return members[0][0]


def _label(members: list[tuple[int, str]], key: str, location: str) -> int:
    """The label of a stem: its .cls, else its .json."""
    by_extension: dict[str, list[tuple[int, str]]] = {extension: [] for extension in LABEL_EXTENSIONS}
    for member in members:
        by_extension[posixpath.splitext(member[1])[1].lower()].append(member)
    return next(_one(of_extension, key, location) for of_extension in by_extension.values() if of_extension)


def _only(by_stem: dict[str, list[tuple[int, str]]], key: str, what: str, location: str) -> int:
    """The image or label of a key: the one named KEY.EXTENSION, else the only one. Raises UserError if there is none."""
    if not by_stem:
        raise _incomplete(location, key, what)
    if key in by_stem:
        return _label(by_stem[key], key, location) if what == "label" else _one(by_stem[key], key, location)
    return _one([member for of_stem in by_stem.values() for member in of_stem], key, location)


def _incomplete(location: str, key: str, what: str) -> UserError:
    label, image = f"{key}.cls or {key}.json with a number or the name of a class", f"one of {' '.join(IMAGE_EXTENSIONS)}"
    return UserError(f"{location}: key {key!r} has no {what}: want {label if what == 'label' else image}")
