"""Holds a part of a conversion, a run of samples, with what the beton stores of each; converts it to and from bytes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.format.layout import SAMPLE_TYPE

_SIZES = struct.Struct("<QQQ")  # bytes of JSON, rows and lengths; the histograms fill the rest


@dataclass(eq=False)
class Part:
    """The metadata of a run of samples: `rows` (n,) SAMPLE_TYPE, and the concatenated lengths of their tiles.

    `odd`: {sample, name, what, reason} for each image that was converted, repaired or skipped; sample is a row of the part,
    None if skipped. `histograms`: (3, 256) int64, over the pixels of `num_histogram_images` images.
    """

    number: int
    rows: NDArray[np.void]
    lengths: bytes
    odd: list[dict[str, Any]]
    histograms: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 256), np.int64))
    num_histogram_images: int = 0

    @property
    def num_skipped(self) -> int:
        return sum(odd["sample"] is None for odd in self.odd)

    def to_bytes(self) -> bytes:
        facts = {"number": self.number, "odd": self.odd, "num_histogram_images": self.num_histogram_images}
        pieces = [json.dumps(facts).encode(), self.rows.tobytes(), self.lengths]
        return b"".join([_SIZES.pack(*map(len, pieces)), *pieces, self.histograms.astype("<i8").tobytes()])

    @classmethod
    def from_bytes(cls, content: bytes) -> Part:
        num_json, num_rows, num_lengths = _SIZES.unpack_from(content)
        start = _SIZES.size
        facts = json.loads(content[start : start + num_json])
        start += num_json
        rows = np.frombuffer(content, SAMPLE_TYPE, num_rows // SAMPLE_TYPE.itemsize, start)
        start += num_rows
        lengths = content[start : start + num_lengths]
        histograms = np.frombuffer(content, "<i8", 3 * 256, start + num_lengths).reshape(3, 256)
        return cls(lengths=lengths, rows=rows, histograms=histograms.astype(np.int64), **facts)
