"""Converts a source part by part into a partial beton, in several processes.

The resulting file does not depend on scheduling: a part has the same samples on any machine, one process computes its bytes,
and the parent assigns positions to the parts in order. A worker writes a part's images itself once it knows their position,
and converts the next part in the meantime.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError, WriteConfig
from deit_fast.data.convert.converter import Converter, StoredImage
from deit_fast.data.convert.decoder import Odd
from deit_fast.data.convert.partial import PartialBeton
from deit_fast.data.convert.pixels import BadImage
from deit_fast.data.convert.progress import Progress
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.workers import Workers
from deit_fast.data.format.layout import FACTS_TYPE, SAMPLE_TYPE, sample_digest, tile_lengths
from deit_fast.data.format.part import Part

_PARTS_IN_HAND = 2  # per worker: one that it converts, one that waits for its position
_TRIAL_SAMPLES = 16
_LARGE_SET = 10_000  # images; compiling for a small set might take longer than its conversion


class Conversion:
    """A conversion: how it is divided into parts, and how one process converts a part.

    all_samples: their numbers in the source, those of a shard if the conversion is of one.
    """

    def __init__(self, source: Source, config: WriteConfig) -> None:
        self.source = source
        self.config = config
        self.starts = source.part_starts().tolist()
        self.all_samples = range(source.num_samples)
        # images whose grey levels are counted: all of a small set, and every 64th of a large one, because a JPEG that is
        # stored unchanged must be decoded for this
        self._histogram_every = min(max(source.num_samples // 32, 1), 64)
        self.converter = Converter(config)

    @property
    def num_parts(self) -> int:
        return len(self.starts)

    def of_parts(self, parts: range) -> Conversion:
        """The conversion of some consecutive parts, which converts each of their images as this one does."""
        some = copy.copy(self)
        some.starts = self.starts[parts.start : parts.stop]
        some.all_samples = range(self.samples(parts[0]).start, self.samples(parts[-1]).stop)
        return some

    def samples(self, part: int) -> range:
        return range(self.starts[part], [*self.starts[part + 1 : part + 2], self.all_samples.stop][0])

    def convert_sample(self, sample: int, *, is_trial: bool = False) -> StoredImage:
        """Reads and converts one image; raises BadImage if it cannot be read or decoded.

        is_trial: counts its grey levels, as for one image in several, so that what decodes it is loaded.
        """
        name = self.source.name(sample)
        try:
            content = self.source.read(sample)
        except OSError as error:
            raise BadImage(name, f"cannot be read: {error.strerror or error}") from error
        return self.converter.convert(sample, name, content, is_trial or sample % self._histogram_every == 0)

    def convert_part(self, number: int, in_hand: Callable[[int], None]) -> tuple[Part, list[bytes]]:
        """Converts the samples of a part; returns their metadata, and the bytes to store."""
        samples = self.samples(number)
        rows = np.zeros(len(samples), SAMPLE_TYPE)
        part = Part(number, rows, b"", [])
        images: list[bytes] = []
        lengths: list[bytes] = []
        for sample in samples:
            in_hand(sample)
            try:
                image = self.convert_sample(sample)
            except BadImage as bad:
                part.odd.append(_odd_line(None, bad.name, Odd("skipped", bad.reason)))
                continue
            lengths.append(_fill(rows[len(images), ...], image, int(self.source.labels[sample])))
            if image.odd:
                part.odd.append(_odd_line(len(images), self.source.name(sample), image.odd))
            if image.histograms is not None:
                part.histograms += image.histograms
                part.num_histogram_images += 1
            images.append(image.stored)
        part.rows, part.lengths = rows[: len(images)].copy(), b"".join(lengths)
        return part, images


def _fill(row: NDArray[np.void], image: StoredImage, label: int) -> bytes:
    """Fills one row () SAMPLE_TYPE from an image; returns the lengths of its tiles."""
    lengths, length_bytes = tile_lengths(image.tiling)
    of_tiles = of_mcu = (0, 0)
    header_bytes = 0
    if image.tiling is not None:
        of_mcu = image.tiling.mcu_width, image.tiling.mcu_height
        of_tiles = len(image.tiling.lengths), image.tiling.interval
        header_bytes = image.tiling.header_bytes
    # all fields at once: each one of a row takes a microsecond
    facts = label, image.width, image.height, image.mode, *of_mcu, length_bytes, *of_tiles, header_bytes, len(image.stored)
    digest = sample_digest(np.array(facts, FACTS_TYPE), lengths, image.stored)
    row[()] = (*facts, digest, 0, image.is_exact, image.orientation)
    return lengths


def _odd_line(sample: int | None, name: str, odd: Odd) -> dict[str, Any]:
    return {"sample": sample, "name": name, "what": odd.what, "reason": odd.reason}


def convert_parts(conversion: Conversion, partial: PartialBeton, num_workers: int, progress: Progress) -> None:
    """Converts the parts that the partial beton lacks, and records each; raises as Workers do.

    Raises UserError for the first image that cannot be read or decoded, unless config.on_error is skip.
    """
    held: dict[int, list[bytes]] = {}  # in a worker: the images of parts without a position

    # Requests are small enough for a worker's pipe to take at any time: if the parent waited for a worker that waits to
    # send its answer, both would wait for ever
    def handle(request: tuple[int, list[int] | None], in_hand: Callable[[int], None]) -> Part | int:
        number, offsets = request
        if offsets is not None:
            partial.store(offsets, held.pop(number))
            return number
        part, held[number] = conversion.convert_part(number, in_hand)
        return part

    to_convert = iter(range(partial.num_parts, conversion.num_parts))
    with Workers(num_workers, handle, conversion.source.name) as workers:
        for worker in [*range(num_workers)] * _PARTS_IN_HAND:
            _send_next(workers, worker, to_convert)
        converted: dict[int, tuple[int, Part]] = {}  # and the worker that holds the images
        placed: dict[int, Part] = {}
        stored: set[int] = set()
        next_to_place = partial.num_parts
        while partial.num_parts < conversion.num_parts:
            worker, answer = workers.receive()
            if isinstance(answer, Part):
                _refuse_bad(answer, conversion.config)
                converted[answer.number] = worker, answer
                while next_to_place in converted:
                    holder, part = converted.pop(next_to_place)
                    partial.place(part)
                    placed[next_to_place] = part
                    workers.send(holder, (part.number, part.rows["offset"].tolist()))
                    next_to_place += 1
                continue
            stored.add(answer)
            _send_next(workers, worker, to_convert)
            while partial.num_parts in stored:
                stored.remove(partial.num_parts)
                part = placed.pop(partial.num_parts)
                partial.record(part)
                progress.add(len(part.rows) + part.num_skipped, int(part.rows["size"].sum()), len(part.odd))


def _send_next(workers: Workers, worker: int, to_convert: Any) -> None:
    number = next(to_convert, None)
    if number is not None:
        workers.send(worker, (number, None))


def _refuse_bad(part: Part, config: WriteConfig) -> None:
    if config.on_error == "fail":
        for odd in part.odd:
            if odd["what"] == "skipped":
                raise UserError(f"{odd['name']}: {odd['reason']}; --write.on_error=skip leaves such files out")


def estimated_bytes(conversion: Conversion, num_trials: int = _TRIAL_SAMPLES) -> int:
    """Estimated bytes of the beton, from a few images spread evenly over it.

    Also loads the compiled functions that these images need before the fork, so that the workers need not; for a large set, in
    which some image will need them, all.
    """
    first, num_samples = conversion.all_samples.start, len(conversion.all_samples)
    if num_samples >= _LARGE_SET:
        conversion.converter.warm_up()
    samples = first + np.unique(np.linspace(0, num_samples - 1, min(num_trials, num_samples)).astype(np.int64))
    sizes = []
    for sample in samples.tolist():
        try:
            image = conversion.convert_sample(sample, is_trial=True)
        except BadImage:
            continue
        sizes.append(len(image.stored) + 100 + 2 * (0 if image.tiling is None else len(image.tiling.lengths)))
    return round(float(np.mean(sizes)) * num_samples) if sizes else 0
