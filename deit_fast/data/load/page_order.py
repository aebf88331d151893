"""Orders an epoch so that only a window of the files needs to be in memory at a time.

The file, or the line on which all files of a set lie, is cut into chunks of consecutive images, which are put in random order
on another line, as long as all of them together. The images of a chunk, in random order, are spread evenly over one window from
the start of the chunk, each at a random position within its part. An epoch shows the images along this line. So each chunk is
needed for the length of one window, and the chunks needed at any point started within the window before it.

Even spreading mixes well if neighbours in the file are alike, as in one sorted by class: two images of a chunk hardly ever
meet in a batch. In a pool of chunks from which images are drawn at random (FFCV's QUASI_RANDOM) they often do, and an epoch
ends with the few chunks that chance has left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.kernels import rng
from deit_fast.kernels.chunks import cut, spread

# Of ImageNet sorted by class, global batches of 341 different images cannot be told from those of a full shuffle with these,
# and of 1024 hardly: chi-square 1.012 instead of 1 (records/2026-11-21-loader). A window of 1 GB wants chunks of 256 KiB.
CHUNK_BYTES = 1 << 20
WINDOW_BYTES = 4 << 30

_ALIGNMENT = 4096  # memory comes in pages; a constant, not the machine's, since the order follows from it
_GAP_BYTES = 64 << 10  # what lies between two images is read along with them up to so many bytes, rather than asking twice


@dataclass(frozen=True, eq=False)
class Chunks:
    """Samples by their place, cut into chunks, and the ranges of bytes that hold them.

    samples (n,) int64, by place; chunk c is samples[first_samples[c] : first_samples[c + 1]] and the ranges first_ranges[c] to
    first_ranges[c + 1]; a range is starts to ends, in bytes of the file, or of the line of all files, multiples of 4096.
    num_bytes (chunks,) int64: all ranges of a chunk together, by the places of its images. files (chunks,) int64: the last file
    that each chunk needs, of those that arrive one by one in the first epoch; None: all are there.
    """

    samples: NDArray[np.int64]
    first_samples: NDArray[np.int64]
    first_ranges: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    files: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.num_bytes)

    def chunk_of_samples(self, num_samples: int) -> NDArray[np.int64]:
        """Chunk of each of the beton's samples, int64 (num_samples,); -1: in none."""
        chunk_of = np.full(num_samples, -1, np.int64)
        chunk_of[self.samples] = np.repeat(np.arange(len(self)), np.diff(self.first_samples))
        return chunk_of


def cut_into_chunks(
    offsets: NDArray[np.uint64],
    sizes: NDArray[np.uint64],
    samples: NDArray[np.int64],
    chunk_bytes: int = CHUNK_BYTES,
    places: NDArray[np.uint64] | None = None,
) -> Chunks:
    """Cuts some samples of a beton into chunks of consecutive images, of at most chunk_bytes, or of one larger image.

    offsets, sizes (all samples,): of the stored images, in bytes. samples (n,): the samples to show, at least one. places (all
    samples,): the chunks are those of a file with the images there; None: at their offsets.
    """
    by_place = offsets if places is None else places
    samples = samples[np.argsort(by_place[samples], kind="stable")]
    image_starts, image_ends = _pages_of(by_place[samples], sizes[samples])
    begins_chunk, begins_range = cut(image_starts, image_ends, np.int64(chunk_bytes), np.int64(_GAP_BYTES))
    first_of_chunk, first_of_range = np.flatnonzero(begins_chunk), np.flatnonzero(begins_range)
    starts, ends, first_ranges = _ranges(image_starts, image_ends, first_of_chunk, first_of_range)
    num_bytes = np.add.reduceat(ends - starts, first_ranges)
    if places is not None:
        image_starts, image_ends = _pages_of(offsets[samples], sizes[samples])
        by_offset = np.lexsort((image_starts, np.cumsum(begins_chunk)))  # within each chunk
        image_starts, image_ends = image_starts[by_offset], image_ends[by_offset]
        begins_range = begins_chunk.copy()
        begins_range[1:] |= image_starts[1:] > image_ends[:-1] + _GAP_BYTES
        starts, ends, first_ranges = _ranges(image_starts, image_ends, first_of_chunk, np.flatnonzero(begins_range))
    return Chunks(
        samples=samples,
        first_samples=np.append(first_of_chunk, len(samples)),
        first_ranges=np.append(first_ranges, len(starts)),
        starts=starts,
        ends=ends,
        num_bytes=num_bytes,
    )


def _pages_of(offsets: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the pages begin and end that hold each image."""
    starts = offsets.astype(np.int64)
    ends = starts + np.maximum(sizes.astype(np.int64), 1)
    return starts // _ALIGNMENT * _ALIGNMENT, -(-ends // _ALIGNMENT) * _ALIGNMENT


def _ranges(
    image_starts: NDArray[np.int64],
    image_ends: NDArray[np.int64],
    first_of_chunk: NDArray[np.int64],
    first_of_range: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of each range, and the first range of each chunk, from the images with which these begin."""
    ends = np.maximum.reduceat(image_ends, first_of_range)
    return image_starts[first_of_range], ends, np.searchsorted(first_of_range, first_of_chunk)


def reach_bytes(chunks: Chunks, window_bytes: int) -> int:
    """Length, in bytes, over which the images of a chunk may be spread. Raises UserError if not even two chunks fit."""
    largest = int(chunks.num_bytes.max())
    if window_bytes < 2 * largest:
        raise UserError(
            f"data.window_gb={window_bytes / 1e9:g}: want at least {2 * largest / 1e9:g}, twice what is read of the beton in "
            "one piece; 4 mix well"
        )
    # chunks whose starts lie within this reach are together smaller than it and the last of them
    return window_bytes - largest


def sample_stream(chunks: Chunks, *, seed: int, epoch: int, window_bytes: int = WINDOW_BYTES) -> NDArray[np.int64]:
    """All samples of the chunks once, int64 (n,), in the order of this epoch: a function of these arguments alone.

    At any point, the chunks in use have at most window_bytes. Raises UserError if two chunks do not fit.
    """
    reach = float(reach_bytes(chunks, window_bytes))
    order = rng.permutation(seed, epoch, len(chunks))
    if chunks.files is not None and epoch == 0:
        order = order[np.argsort(chunks.files[order], kind="stable")]
    num_bytes = chunks.num_bytes[order]
    chunk_starts = np.empty(len(chunks), np.float64)
    chunk_starts[order] = np.cumsum(num_bytes) - num_bytes
    base = rng.pack_view_ids(epoch, np.zeros(1, np.uint64), np.zeros(1, np.uint64))[0]
    shuffled, places = spread(chunks.samples, chunks.first_samples, chunk_starts, reach, np.uint64(seed), base)
    stream: NDArray[np.int64] = shuffled[np.argsort(places, kind="stable")]
    return stream


@dataclass(frozen=True, eq=False)
class ReadSchedule:
    """Ranges of a file, starts to ends in bytes, and the first and the last step of an epoch that needs each. int64 (n,)."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    first_steps: NDArray[np.int64]
    last_steps: NDArray[np.int64]


def read_schedule(
    chunks: Chunks, sample_of_position: NDArray[np.int64], step_of_position: NDArray[np.int64], num_samples: int
) -> ReadSchedule:
    """Ranges that must be in memory at each step, in the order of their first steps.

    sample_of_position (n,): the samples shown, in any number of copies; step_of_position (n,): their steps, ascending.
    num_samples: of the beton.
    """
    chunk = chunks.chunk_of_samples(num_samples)[sample_of_position]
    first_steps, last_steps = np.full((2, len(chunks)), -1, np.int64)
    # of several values for one element, NumPy keeps the last
    last_steps[chunk] = step_of_position
    first_steps[chunk[::-1]] = step_of_position[::-1]
    chunk_of_range = np.repeat(np.arange(len(chunks)), np.diff(chunks.first_ranges))
    shown = np.flatnonzero(first_steps[chunk_of_range] >= 0)
    shown = shown[np.argsort(first_steps[chunk_of_range[shown]], kind="stable")]
    chunk_of_range = chunk_of_range[shown]
    return ReadSchedule(chunks.starts[shown], chunks.ends[shown], first_steps[chunk_of_range], last_steps[chunk_of_range])


def mixing_statistics(labels: NDArray[np.int64], stream: NDArray[np.int64], batch_size: int) -> dict[str, float]:
    """Measures how well a stream of samples mixes classes, over whole batches of batch_size samples; labels (samples,).

    distinct_classes: in a batch, mean. chi_square: of the classes' counts in a batch against their shares in the stream,
    divided by the degrees of freedom, mean; 1 without clumps. worst_batch: the largest. correlation: between the deviations
    of a batch and of the next, mean; 0 without clumps. largest_correlation: with any of the 16 next.
    """
    num_classes = int(labels.max()) + 1
    num_batches = len(stream) // batch_size
    shown = labels[stream[: num_batches * batch_size]]
    cells = np.repeat(np.arange(num_batches), batch_size) * num_classes + shown
    counts = np.bincount(cells, minlength=num_batches * num_classes).reshape(num_batches, num_classes)
    expected = counts.mean(axis=0)
    held = expected > 0
    deviations = (counts[:, held] - expected[held]) / np.sqrt(expected[held])
    freedom = max(int(held.sum()) - 1, 1)
    chi_squares = (deviations**2).sum(axis=1) / freedom
    covariances = [
        float((deviations[:-lag] * deviations[lag:]).sum() / (num_batches - lag) / freedom)
        for lag in range(1, min(17, num_batches))
    ]
    correlations = [covariance / (float(chi_squares.mean()) or 1.0) for covariance in covariances] or [0.0]
    return {
        "distinct_classes": float((counts > 0).sum(axis=1).mean()),
        "chi_square": float(chi_squares.mean()),
        "worst_batch": float(chi_squares.max()),
        "correlation": correlations[0],
        "largest_correlation": max(correlations),
    }
