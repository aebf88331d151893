"""Reads CIFAR-10 and CIFAR-100, in their Python version, as sources of pixels."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.sources.files import Files, checked_labels, open_first


@dataclass(frozen=True)
class Layout:
    """Names of the files and of the entries in them."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    meta: str
    class_names: str


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        ("test_batch",),
        "labels",
        "batches.meta",
        "label_names",
    ),
    "cifar100": Layout(
        "cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",), "fine_labels", "meta", "fine_label_names"
    ),
}


class Cifar(Source):
    """Pixels of `kind` cifar10 or cifar100 (with its 100 fine classes), in the order of the files.

    path: the archive as distributed, the folder in it, or a folder with either. The splits are train and test; val is
    test. Raises UserError if the files are missing or damaged, or do not match the layout.
    """

    def __init__(self, path: Path, kind: str, split: str, scratch: Path | None = None) -> None:
        self.location = str(path)
        layout = LAYOUTS[kind]
        files = _open(path, layout, scratch)
        try:
            self.classes = _class_names(files, layout)
            batches = layout.train if split == "train" else layout.test
            loaded = [_batch(files, f"{layout.folder}/{name}", layout.labels) for name in batches]
        finally:
            files.close()
        self._pixels = np.concatenate([pixels for pixels, _ in loaded])
        self._batches = batches
        self._starts = np.cumsum([0, *(len(pixels) for pixels, _ in loaded)], dtype=np.int64)
        labels = [label for _, of_batch in loaded for label in of_batch]
        self.labels = checked_labels(path, labels, len(self._pixels), len(self.classes))

    def name(self, sample: int) -> str:
        """BATCH/NUMBER, where NUMBER is the position in the file."""
        batch = int(np.searchsorted(self._starts, sample, side="right")) - 1
        return f"{self._batches[batch]}/{sample - self._starts[batch]}"

    def read(self, sample: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._pixels[sample].reshape(3, 32, 32).transpose(1, 2, 0))


def cifar_kind(path: Path) -> str:
    """cifar10 or cifar100, by the files there. Raises UserError if they are of neither, or of both."""
    found = [
        kind
        for kind, layout in LAYOUTS.items()
        if path.name in (layout.archive, layout.folder)
        or any((path / name).exists() for name in (layout.folder, layout.archive))
    ]
    if len(found) != 1:
        wanted = " or ".join(name for layout in LAYOUTS.values() for name in (layout.archive, layout.folder))
        raise UserError(f"{path}: has {'both CIFAR-10 and CIFAR-100' if found else 'no CIFAR'}: want the path of one {wanted}")
    return found[0]


def _open(path: Path, layout: Layout, scratch: Path | None) -> Files:
    """The files of the archive or folder."""
    is_itself = path.is_file() or (path / layout.meta).is_file()
    files = open_first([path] if is_itself else [path / layout.folder, path / layout.archive], scratch)
    if files is None:
        raise UserError(f"{path}: no {layout.archive} or {layout.folder} there: want the Python version of the data set")
    return files


def _load(files: Files, name: str) -> dict[str, Any]:
    """Unpickles a file."""
    file = name.rpartition("/")[2]
    content = files.read_named(file)
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{files.location}: {file}: not a file of CIFAR, or damaged: {error}; fetch it again") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{files.location}: {file}: holds a {type(loaded).__name__}: want a dictionary; fetch it again")
    return loaded


def _class_names(files: Files, layout: Layout) -> tuple[str, ...]:
    names = _load(files, layout.meta).get(layout.class_names)
    if not isinstance(names, list) or not names:
        raise UserError(f"{files.location}: {layout.meta}: has no {layout.class_names}: want the Python version")
    return tuple(str(name) for name in names)


def _batch(files: Files, name: str, labels_name: str) -> tuple[NDArray[np.uint8], list[int]]:
    """Pixels (images, 3072), channel after channel, and labels."""
    batch = _load(files, name)
    pixels, labels = batch.get("data"), batch.get(labels_name)
    file = f"{files.location}: {name.rpartition('/')[2]}"
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise UserError(f"{file}: has no data of 3072 bytes an image: want the Python version of the data set")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels) or len(labels) != len(pixels):
        raise UserError(f"{file}: has {len(pixels)} images and not as many {labels_name}; fetch it again")
    return pixels, labels


class _Unpickler(pickle.Unpickler):
    """Makes only arrays and plain types: a pickle can call any function, and these come from the internet."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) == ("_codecs", "encode"):  # Python 3's form of bytes in protocol 2
            return _latin1_bytes
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which CIFAR's files do not need")


def _empty_array(_subtype: object, _shape: object, _kind: object) -> NDArray[Any]:
    """Stands in for numpy's _reconstruct, whose array gets its state later."""
    return np.ndarray((0,), dtype=np.int8)


def _latin1_bytes(text: str, _encoding: str) -> bytes:
    return text.encode("latin1")
