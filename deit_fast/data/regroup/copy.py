"""Copies stored images, checked by their digests, from joined betons into a new one.

Every byte is read once to compute digests: that of the source, so that no damage is copied, and that of the copy, which the
manifest needs. The bytes read are then written. copy_file_range instead of that write took 1.1 to 1.3 times as long on ext4,
and cannot share blocks, since images start at other places in a block. Threads suffice: reading, SHA-256 and writing run
without Python's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.partial import PartialBeton
from deit_fast.data.convert.transcode import NotTranscodable, tiling_of
from deit_fast.data.format import layout
from deit_fast.data.format.beton import JPEG_MODE, Beton
from deit_fast.data.format.files import read_into
from deit_fast.data.format.index import Index, chosen_rows
from deit_fast.data.format.part import Part
from deit_fast.data.regroup.choice import Choice
from deit_fast.data.regroup.joined import Joined

SAMPLES_PER_PART = 1024
_MOST_AT_ONCE = 8 << 20  # bytes in one read and write; a larger image makes one by itself


class Copier:
    """Copies the chosen samples of joined betons, part by part. Any thread may copy any part."""

    def __init__(self, joined: Joined, choice: Choice) -> None:
        self._joined = joined
        self._choice = choice
        self._files = [beton.path.open("rb", buffering=0) for beton in joined.betons]
        self._buffers = threading.local()
        self._odd = [_odd_lines(manifest) for manifest in joined.manifests]

    def close(self) -> None:
        for file in self._files:
            file.close()

    @property
    def num_parts(self) -> int:
        return -(-len(self._choice.samples) // SAMPLES_PER_PART)

    def part(self, number: int) -> Part:
        """The metadata of a part's samples, without their digests and offsets."""
        chosen = self._choice.at(number * SAMPLES_PER_PART, (number + 1) * SAMPLES_PER_PART)
        rows: list[NDArray[np.void]] = []
        odd: list[dict[str, Any]] = []
        for source, (beton, index) in enumerate(zip(self._joined.betons, self._joined.indexes, strict=True)):
            samples = self._joined.of_beton(source, chosen.samples)
            first = sum(len(of_one) for of_one in rows)
            odd += [
                line | {"sample": first + row}
                for row, sample in enumerate(samples.tolist())
                for line in self._odd[source].get(sample, ())
            ]
            rows.append(chosen_rows(beton, index, samples))
        part = Part(number, np.concatenate(rows), b"", odd)
        part.rows["label"] = chosen.labels
        return part

    def copy(self, part: Part, partial: PartialBeton) -> Part:
        """Copies the images of a part, whose offsets are known, and completes its rows.

        Raises UserError, naming the sample, for an image that is not what was written or cannot be read.
        """
        chosen = self._choice.at(part.number * SAMPLES_PER_PART, (part.number + 1) * SAMPLES_PER_PART)
        lengths: list[bytes] = []
        for source in range(len(self._files)):
            samples = self._joined.of_beton(source, chosen.samples)
            rows = part.rows[len(lengths) : len(lengths) + len(samples)]
            lengths += self._copy_of_beton(source, samples, rows, partial)
        part.lengths = b"".join(lengths)
        return part

    def _copy_of_beton(
        self, source: int, samples: NDArray[np.int64], rows: NDArray[np.void], partial: PartialBeton
    ) -> list[bytes]:
        """Copies samples of one beton; completes their rows in place, and gives the lengths of each one's tiles."""
        beton, index = self._joined.betons[source], self._joined.indexes[source]
        lengths = [b""] * len(samples)
        for run in _runs(beton.offsets[samples].astype(np.int64), rows):
            start, end = int(beton.offsets[samples[run[0]]]), int(beton.offsets[samples[run[-1]]] + rows[run[-1]]["size"])
            buffer = self._buffer(end - start)
            if read_into(self._files[source].fileno(), buffer, start) < end - start:
                raise UserError(f"{beton.path}: has become shorter while it was read; check it with `deit-fast verify`")
            at = 0
            for place in run:
                stored = buffer[at : at + int(rows[place]["size"])]
                at += stored.nbytes
                lengths[place] = _complete(rows[place], int(samples[place]), beton, index, stored)
            partial.write(buffer, int(rows[run[0]]["offset"]))
        return lengths

    def _buffer(self, num_bytes: int) -> memoryview:
        """Memory of this thread for so many bytes."""
        if len(getattr(self._buffers, "memory", b"")) < num_bytes:
            self._buffers.memory = bytearray(max(num_bytes, _MOST_AT_ONCE))
        return memoryview(self._buffers.memory)[:num_bytes]


def _runs(offsets: NDArray[np.int64], rows: NDArray[np.void]) -> Iterator[list[int]]:
    """Positions of samples whose images follow each other both in the source, at these offsets, and in the copy."""
    sizes, targets = rows["size"].astype(np.int64), rows["offset"].astype(np.int64)
    run: list[int] = []
    num_bytes = 0
    for place in np.argsort(offsets, kind="stable").tolist():
        follows = bool(run) and all(at[run[-1]] + sizes[run[-1]] == at[place] for at in (offsets, targets))
        if run and not (follows and num_bytes + sizes[place] <= _MOST_AT_ONCE):
            yield run
            run, num_bytes = [], 0
        run.append(place)
        num_bytes += int(sizes[place])
    if run:
        yield run


def _complete(row: Any, sample: int, beton: Beton, index: Index | None, stored: memoryview) -> bytes:
    """Checks an image by its digest in the index, and fills in the digest of its copy; gives the lengths of its tiles.

    Without an index there is nothing to check by, and the tiles are found in the JPEG.
    """
    if index is None:
        lengths = _find_tiles(row, sample, beton, stored)
    else:
        lengths = index.length_bytes(sample)
        label, row["label"] = int(row["label"]), beton.labels[sample]
        digest = layout.sample_digest(row, lengths, stored)
        if digest[:8] != index.rows[sample]["digest"].tobytes():
            raise UserError(
                f"{beton.path}: sample {sample} is not what was written: its digest differs; `deit-fast verify` finds all "
                "such samples; want a whole beton"
            )
        row["digest"] = np.void(digest)
        if label == row["label"]:
            return lengths
        row["label"] = label
    row["digest"] = np.void(layout.sample_digest(row, lengths, stored))
    return lengths


def _find_tiles(row: Any, sample: int, beton: Beton, stored: memoryview) -> bytes:
    if row["mode"] != JPEG_MODE:
        return b""
    try:
        tiling = tiling_of(bytes(stored))
    except NotTranscodable as error:
        raise UserError(
            f"{beton.path}: the JPEG of sample {sample} cannot be taken over: {error}; want a beton made by `deit-fast write`"
        ) from error
    lengths, row["length_bytes"] = layout.tile_lengths(tiling)
    row["mcu_width"], row["mcu_height"] = tiling.mcu_width, tiling.mcu_height
    row["num_tiles"], row["interval"], row["header_bytes"] = len(tiling.lengths), tiling.interval, tiling.header_bytes
    return lengths


def _odd_lines(manifest: dict[str, Any] | None) -> dict[int, list[dict[str, Any]]]:
    """The manifest's lines about odd images that it has, by sample."""
    lines: dict[int, list[dict[str, Any]]] = {}
    for line in (manifest or {}).get("odd", []):
        if isinstance(line.get("sample"), int):
            lines.setdefault(line["sample"], []).append(line)
    return lines
