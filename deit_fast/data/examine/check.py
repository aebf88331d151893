"""Checks samples of an opened beton: digest, decoding, tiles, difference from the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.convert.transcode import NotTranscodable, tiling_of
from deit_fast.data.examine.against import Comparison
from deit_fast.data.format import layout
from deit_fast.data.format.beton import JPEG_MODE, Beton
from deit_fast.data.format.files import read_at
from deit_fast.data.format.index import Index, sample_rows
from deit_fast.data.format.structure import Problem, Region
from deit_fast.kernels.jpeg.turbojpeg import OK, JpegDecoder, reason

_PIECE = 1 << 24


@dataclass(frozen=True)
class Answer:
    """Findings about the samples from `first` on, or about a region if `rows` is empty."""

    first: int
    rows: NDArray[np.void]
    problems: list[Problem]
    num_bytes: int
    num_converted: int = 0
    num_decoded: int = 0
    region: Region | None = None


class Checker:
    """Checks samples in one process; opened before the fork."""

    def __init__(self, beton: Beton, index: Index | None, comparison: Comparison | None) -> None:
        self.beton = beton
        self.index = index
        self.comparison = comparison
        self._file = beton.path.open("rb")
        self._decoder = JpegDecoder()

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._decoder.close()
        if self.comparison is not None:
            self.comparison.close()

    def check(self, request: range | Region, in_hand: Callable[[int], None]) -> Answer:
        """Checks a range of samples, or that a region of the file is zero."""
        if isinstance(request, Region):
            found_there = list(self._region_problems(request))
            num_bytes = request.end - request.start
            return Answer(-1, np.zeros(0, layout.SAMPLE_TYPE), found_there, num_bytes, region=request)
        rows = sample_rows(self.beton, self.index, request.start, request.stop)
        problems = []
        num_bytes = num_converted = num_decoded = 0
        for sample, row in zip(request, rows, strict=True):
            in_hand(sample)
            found, stored = self._read(sample)
            if not found:
                found = list(self._image_problems(sample, row, stored))
                if self.comparison is not None:
                    compared = self.comparison.compare(sample, row, stored)
                    found += [compared.difference] if compared.difference else []
                    num_converted += compared.was_converted
                    num_decoded += compared.was_decoded
            num_bytes += len(stored)
            if found:
                problems.append(Problem(sample, "; ".join(found)))
        return Answer(request.start, rows, problems, num_bytes, num_converted, num_decoded)

    def _read(self, sample: int) -> tuple[list[str], bytes]:
        size, offset = int(self.beton.sizes[sample]), int(self.beton.offsets[sample])
        try:
            stored = read_at(self._file.fileno(), size, offset)
        except OSError as error:
            return [f"cannot be read: {error.strerror}"], b""
        return ([f"{len(stored):,} of its {size:,} bytes can be read"] if len(stored) < size else []), stored

    def _image_problems(self, sample: int, row: np.void, stored: bytes) -> Iterator[str]:
        """Finds problems of an image, and fills in the row's digest."""
        is_whole = True
        if self.index is not None:
            digest = layout.sample_digest(row, self.index.length_bytes(sample), stored)
            row["digest"] = np.void(digest)
            is_whole = self.index.rows[sample]["digest"].tobytes() == digest[:8]
            if not is_whole:
                yield "is not what was written: its digest differs"
        if row["mode"] != JPEG_MODE:
            is_tiled = any(row[name] for name in ("num_tiles", "interval", "header_bytes", "mcu_width", "mcu_height"))
            if is_tiled and is_whole:
                yield "has tiles in the index, and is no JPEG"
            return
        failure = self._decode(stored, int(row["height"]), int(row["width"]))
        if failure:
            yield f"does not decode: {failure}"
        elif self.index is not None and is_whole:
            yield from self._tile_problems(sample, row, stored)

    def _decode(self, stored: bytes, height: int, width: int) -> str:
        """Why the JPEG does not decode to that size; empty if it does."""
        try:
            # this memory is not touched, and so not used, before the JPEG's own size matches
            status, _ = self._decoder.decode(stored, height, width)
            if status == OK:
                return ""
            return reason(status, np.frombuffer(stored, np.uint8), height, width)
        except MemoryError:
            return f"there is no memory for {width}x{height} pixels"

    def _tile_problems(self, sample: int, row: np.void, stored: bytes) -> Iterator[str]:
        assert self.index is not None
        try:
            tiling = tiling_of(stored)
        except NotTranscodable as error:
            yield f"its tiles cannot be told: {error}"
            return
        lengths, length_bytes = layout.tile_lengths(tiling)
        wanted = (tiling.mcu_width, tiling.mcu_height, tiling.interval, tiling.header_bytes, len(tiling.lengths), length_bytes)
        columns = ("mcu_width", "mcu_height", "interval", "header_bytes", "num_tiles", "length_bytes")
        if tuple(int(row[name]) for name in columns) != wanted or self.index.length_bytes(sample) != lengths:
            yield "its tiles are not where its row in the index says"

    def _region_problems(self, region: Region) -> Iterator[Problem]:
        for start in range(region.start, region.end, _PIECE):
            piece = read_at(self._file.fileno(), min(_PIECE, region.end - start), start)
            if piece.count(0) != len(piece):
                first = start + len(piece) - len(piece.lstrip(b"\0"))
                yield Problem(None, f"byte {first:,}, between {region.where}, is not zero")
                return
