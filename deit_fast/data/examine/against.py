"""Compares a beton with its source, one image at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.converter import Converter, StoredImage
from deit_fast.data.convert.pixels import BadImage, decode, max_pixels, resize, stored_size, turn
from deit_fast.data.convert.sources import open_source, without_unused
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.format.beton import RAW_MODE, Beton
from deit_fast.data.format.structure import Problem


class Compared(NamedTuple):
    """How a sample was compared with its source, and the difference (empty: none).

    `was_converted`: the source was converted again and the result compared with the stored bytes; `was_decoded`: Pillow's
    pixels of the source were compared with the stored ones.
    """

    was_converted: bool
    was_decoded: bool
    difference: str


class Comparison:
    """Compares stored images with those of the source, in one process.

    `samples`: (num_samples,) number in the source of each sample of the beton. Without settings, only pixels are compared,
    because it is unknown how the source was converted.
    """

    def __init__(self, source: Source, samples: NDArray[np.int64], settings: WriteConfig | None) -> None:
        self.source = source
        self.samples = samples
        self._settings = settings
        self._max_pixels = max_pixels(settings or WriteConfig())
        self._converter = None if settings is None else Converter(settings)

    def name(self, sample: int) -> str:
        """Name of a sample of the beton in the source."""
        return self.source.name(int(self.samples[sample]))

    def close(self) -> None:
        if self._converter is not None:
            self._converter.close()
        self.source.close()

    def compare(self, sample: int, row: np.void, stored: bytes) -> Compared:
        """Compares one sample with its source. row: a layout.SAMPLE_TYPE; stored: the sample's bytes in the beton."""
        number = int(self.samples[sample])
        name = self.source.name(number)
        try:
            content = self.source.read(number)
            again = None if self._converter is None else self._converter.convert(number, name, content, False)
            return self._compare(row, stored, content, name, again)
        except OSError as error:
            return Compared(False, False, f"its source cannot be read: {error.strerror or error}")
        except BadImage as bad:
            return Compared(False, False, f"cannot be compared with its source: {bad.reason}")

    def _compare(
        self, row: np.void, stored: bytes, content: bytes | NDArray[np.uint8], name: str, again: StoredImage | None
    ) -> Compared:
        limit = max(self._max_pixels, int(row["width"]) * int(row["height"]))
        was_converted = again is not None
        is_same = again is not None and again.stored == stored
        # an image encoded anew lacks the source's pixels: it has those that encoding them again gives
        is_encoded_anew = again is not None and not again.is_exact and again.mode != RAW_MODE
        if is_encoded_anew and is_same:
            return Compared(was_converted, False, "")
        assert again is not None or not is_encoded_anew
        if is_encoded_anew and again is not None:
            wanted = decode(again.stored, name, limit).pixels
        else:
            wanted = self._source_pixels(content, name, limit, is_raw=again is not None and again.mode == RAW_MODE)
        found = _stored_pixels(row, stored, limit)
        difference = _difference(found, np.asarray(wanted))
        if not difference and was_converted and not is_same:
            difference = "its pixels are those of its source converted again, its bytes are not: was another version used?"
        return Compared(was_converted, not is_encoded_anew, difference)

    def _source_pixels(self, content: bytes | NDArray[np.uint8], name: str, limit: int, *, is_raw: bool) -> Image.Image:
        """Pillow's pixels of the source; oriented and scaled by the settings if they are stored raw."""
        if isinstance(content, bytes):
            decoded = decode(content, name, limit)
            pixels, orientation = decoded.pixels, decoded.orientation
        else:
            pixels, orientation = Image.fromarray(content), 1
        if self._settings is None or not is_raw:
            return pixels
        if self._settings.exif_orientation == "apply":
            pixels = turn(pixels, orientation)
        return resize(pixels, stored_size(*pixels.size, self._settings), self._settings.interpolation)


def open_comparison(path: str, beton: Beton, manifest: dict[str, Any] | None) -> tuple[Comparison | None, list[Problem]]:
    """Opens the source at path as the manifest says, without skipped images; also returns where its labels differ.

    Returns no comparison if the source has another number of images: then they cannot be matched. Raises UserError if the
    source cannot be opened.
    """
    source_config, settings = _settings(manifest)
    source = open_source(dataclasses.replace(source_config, path=path))
    skipped = _skipped(manifest)
    numbers = range(source.num_samples)
    if beton.shard is not None:
        numbers = numbers[beton.shard.samples.start : beton.shard.samples.stop]
    samples = np.array([n for n in numbers if not skipped or source.name(n) not in skipped], np.int64)
    problems = []
    if beton.classes is not None and beton.classes != source.classes:
        problems.append(
            Problem(None, f"its classes are not those of {path}: {_first_difference(beton.classes, source.classes)}")
        )
    if len(samples) != beton.num_samples:
        problems.append(Problem(None, _count_difference(path, beton, source, samples)))
        source.close()
        return None, problems
    labels = source.labels[samples]
    for sample in np.flatnonzero(labels != beton.labels).tolist():
        problems.append(Problem(sample, f"its label is {beton.labels[sample]}, in the source {labels[sample]}"))
    return Comparison(source, samples, settings), problems


def known_source(beton: Beton, manifest: dict[str, Any] | None) -> Comparison | None:
    """The image folder that the beton came from by its manifest, if it still exists: for the names of samples."""
    source = (manifest or {}).get("source")
    if not isinstance(source, dict) or source.get("kind") != "folder" or not Path(str(source.get("path"))).is_dir():
        return None
    try:
        return open_comparison(str(source["path"]), beton, manifest)[0]
    except UserError:
        return None


def _settings(manifest: dict[str, Any] | None) -> tuple[SourceConfig, WriteConfig | None]:
    """The manifest's options of the source and of its conversion; the latter None without a manifest or with an old one."""
    source, settings = (manifest or {}).get("source"), (manifest or {}).get("settings")
    if not isinstance(source, dict) or not isinstance(settings, dict):
        return SourceConfig(), None
    try:
        return without_unused(SourceConfig(**source)), WriteConfig(**settings)
    except TypeError as error:
        raise UserError(f"the manifest has settings that this version does not know: {error}; update deit_fast") from error


def _skipped(manifest: dict[str, Any] | None) -> set[str]:
    """Names of the source's files that the conversion skipped."""
    odd = (manifest or {}).get("odd")
    lines = [line for line in odd if isinstance(line, dict)] if isinstance(odd, list) else []
    return {str(line.get("name")) for line in lines if line.get("what") == "skipped"}


def _first_difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    label = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    here, there = (repr(names[label]) if label < len(names) else "missing" for names in (ours, theirs))
    return f"class {label} is {here}, there {there}"


def _count_difference(path: str, beton: Beton, source: Source, samples: NDArray[np.int64]) -> str:
    text = f"it has {beton.num_samples:,} images, {path} has {len(samples):,}, which were therefore not compared"
    num_classes = len(source.classes)
    here = np.bincount(np.minimum(beton.labels, num_classes), minlength=num_classes + 1)
    there = np.bincount(source.labels[samples], minlength=num_classes + 1)
    label = int(np.argmax(here != there))
    if label == num_classes:
        return text
    return f"{text}; class {label} ({source.classes[label]}) has {here[label]:,} here and {there[label]:,} there"


def _stored_pixels(row: np.void, stored: bytes, limit: int) -> NDArray[np.uint8]:
    if row["mode"] == RAW_MODE:
        return np.frombuffer(stored, np.uint8).reshape(int(row["height"]), int(row["width"]), 3)
    return np.asarray(decode(stored, "", limit).pixels)


def _difference(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> str:
    if found.shape != wanted.shape:
        return f"is {found.shape[1]}x{found.shape[0]} pixels, its source gives {wanted.shape[1]}x{wanted.shape[0]}"
    if np.array_equal(found, wanted):
        return ""
    largest = int(np.abs(found.astype(np.int16) - wanted).max())
    return f"its pixels differ from its source's by up to {largest} grey levels"
