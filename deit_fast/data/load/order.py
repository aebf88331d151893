"""Orders the views of an epoch: which views each rank shows, batch by batch.

Training: all samples in an order of the epoch, each `repeats` times in a row, are one stream for all ranks; global batch s
is the stream's s-th stretch, and rank r takes the r-th part of it. So copies of a sample are neighbours on a rank, and what
an epoch shows depends on the global batch size but not on the number of ranks. An epoch shows as many whole global batches
as make up at most the number of samples, and so only 1 / repeats of the samples.

DeiT's sampler (facebookresearch/deit, samplers.py) has the same stream, given the same permutation, and the same views in
each global batch; it deals them by stride, so that copies of a sample lie on different ranks. It cuts each rank's part of an
epoch of N samples after floor(N // 256 * 256 / ranks), and its loader leaves out an incomplete batch. Where the global batch
is a multiple of 256 that gives as many steps as here; elsewhere it may give fewer, never more. Its `repeats` is always 3:
without repeats DeiT uses PyTorch's DistributedSampler, which gives the last ranks some samples twice to even out the ranks'
parts, and so may show one global batch more. Its permutation depends on the epoch alone, ours on the seed too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format.subset import stratified
from deit_fast.data.load import page_order
from deit_fast.data.load.page_order import Chunks, ReadSchedule
from deit_fast.kernels import rng


def steps_per_epoch(num_samples: int, batch_size: int, world_size: int) -> int:
    """Whole global batches in an epoch. Raises UserError if there is none."""
    steps = num_samples // (batch_size * world_size)
    if steps == 0:
        raise UserError(
            f"data.batch_size={batch_size} on {world_size} rank(s) is more than the {num_samples} training images; "
            "want a smaller batch"
        )
    return steps


def choose_subset(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Sorted numbers of `count` samples, int64, in proportion from each class; the same for the same arguments.

    labels (samples,), from 0. Raises UserError if there are fewer samples.
    """
    if not 1 <= count <= len(labels):
        raise UserError(f"data.subset={count}: want 1 to {len(labels)}, the images of the beton")
    return stratified(labels.astype(np.int32), int(labels.max()) + 1, count, seed)


@dataclass(frozen=True, eq=False)
class TrainOrder:
    """Order of the views of one rank in any epoch; made by `train_order`.

    samples: numbers of the samples to show, int64, of a beton with num_samples. chunks: of the beton, for the order by pages;
    None for the random order.
    """

    samples: NDArray[np.int64]
    num_samples: int
    chunks: Chunks | None
    seed: int
    batch_size: int
    repeats: int
    rank: int
    world_size: int
    window_bytes: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch. Raises UserError if there is none."""
        return steps_per_epoch(len(self.samples), self.batch_size, self.world_size)

    def stream(self, epoch: int) -> NDArray[np.int64]:
        """All samples once, int64, in the order of the epoch: the same on all ranks."""
        if self.chunks is not None:
            return page_order.sample_stream(self.chunks, seed=self.seed, epoch=epoch, window_bytes=self.window_bytes)
        return self.samples[rng.permutation(self.seed, epoch, len(self.samples))]

    def batches(self, epoch: int, first_step: int = 0) -> NDArray[np.uint64]:
        """View ids of this rank's batches from first_step on, uint64 (steps_per_epoch - first_step, batch_size)."""
        steps = self.steps_per_epoch
        shape = (steps, self.world_size, self.batch_size)
        positions = np.arange(steps * self.world_size * self.batch_size).reshape(shape)[first_step:, self.rank]
        ids: NDArray[np.uint64] = rng.pack_view_ids(
            epoch, self.stream(epoch)[positions // self.repeats], positions % self.repeats
        )
        return ids

    def sample_after(self, sample: int) -> int:
        """The next sample to show after one, by number; the first after the last."""
        return int(self.samples[np.searchsorted(self.samples, sample, side="right") % len(self.samples)])

    def read_schedule(self, epoch: int, first_step: int = 0) -> ReadSchedule | None:
        """Ranges of the beton that all ranks together need at each step from first_step on; None in random order: all."""
        if self.chunks is None:
            return None
        global_batch_size = self.batch_size * self.world_size
        positions = np.arange(first_step * global_batch_size, self.steps_per_epoch * global_batch_size)
        shown = self.stream(epoch)[positions // self.repeats]
        return page_order.read_schedule(self.chunks, shown, positions // global_batch_size, self.num_samples)


def train_order(
    offsets: NDArray[np.uint64],
    sizes: NDArray[np.uint64],
    places: NDArray[np.uint64] | None = None,
    *,
    subset: NDArray[np.int64] | None = None,
    kind: Literal["random", "pages"] = "random",
    files: NDArray[np.int64] | None = None,
    seed: int,
    batch_size: int,
    repeats: int,
    rank: int,
    world_size: int,
    window_bytes: int = page_order.WINDOW_BYTES,
    chunk_bytes: int = page_order.CHUNK_BYTES,
) -> TrainOrder:
    """Order of the samples of a beton with images at offsets, of sizes in bytes; or of a subset, given by numbers.

    places: as for `page_order.cut_into_chunks`.

    kind: "random" is a permutation of all, for betons that fit into memory. "pages" is for those that do not: it needs at most
    window_bytes of the file at any time, and reads it in chunks of chunk_bytes. files (samples,): the file of each sample, if
    these arrive one by one: "pages" then shows chunks of earlier files first in the first epoch. Raises UserError if the set
    has less than one global batch, or two chunks do not fit into the window.
    """
    samples = np.arange(len(offsets)) if subset is None else subset
    steps_per_epoch(len(samples), batch_size, world_size)
    chunks = None
    if kind == "pages":
        chunks = page_order.cut_into_chunks(offsets, sizes, samples, chunk_bytes, places)
        page_order.reach_bytes(chunks, window_bytes)
        if files is not None:
            chunks = replace(chunks, files=np.maximum.reduceat(files[chunks.samples], chunks.first_samples[:-1]))
    return TrainOrder(samples, len(offsets), chunks, seed, batch_size, repeats, rank, world_size, window_bytes)


@dataclass(frozen=True, eq=False)
class StretchOrder:
    """Order of chosen stretches of each epoch's stream, each shown by one rank once, cut into batches from its beginning.

    of: the order of a rank, whose stream, batch size, rank and number of ranks hold here too. stretches: for each epoch the
    stretches of positions that all ranks show together, dealt to the ranks in turn.
    """

    of: TrainOrder
    stretches: Sequence[Sequence[range]]

    @property
    def samples(self) -> NDArray[np.int64]:
        return self.of.samples

    @property
    def num_samples(self) -> int:
        return self.of.num_samples

    @property
    def steps_per_epoch(self) -> int:
        """Batches of this rank in its longest epoch."""
        return max((len(self._batches(epoch, self.of.rank)) for epoch in range(len(self.stretches))), default=0)

    def sample_after(self, sample: int) -> int:
        """As for `TrainOrder`."""
        return self.of.sample_after(sample)

    def batches(self, epoch: int, first_step: int = 0) -> list[NDArray[np.uint64]]:
        """View ids of this rank's batches from first_step on, uint64; the last of a stretch may be shorter."""
        stream, repeats = self.of.stream(epoch), self.of.repeats
        return [
            rng.pack_view_ids(epoch, stream[positions // repeats], positions % repeats)
            for positions in self._batches(epoch, self.of.rank)[first_step:]
        ]

    def read_schedule(self, epoch: int, first_step: int = 0) -> ReadSchedule | None:
        """As for `TrainOrder`: what all ranks together need at each step."""
        if self.of.chunks is None:
            return None
        batches = [self._batches(epoch, rank)[first_step:] for rank in range(self.of.world_size)]
        steps = [(step, positions) for of_rank in batches for step, positions in enumerate(of_rank, first_step)]
        steps.sort(key=lambda one: one[0])
        if not steps:
            return None
        positions = np.concatenate([positions for _, positions in steps])
        step_of_position = np.concatenate([np.full(len(positions), step) for step, positions in steps])
        shown = self.of.stream(epoch)[positions // self.of.repeats]
        return page_order.read_schedule(self.of.chunks, shown, step_of_position, self.of.num_samples)

    def _batches(self, epoch: int, rank: int) -> list[NDArray[np.int64]]:
        """Positions of the batches of a rank."""
        size = self.of.batch_size
        return [
            np.arange(start, min(start + size, stretch.stop))
            for stretch in self.stretches[epoch][rank :: self.of.world_size]
            for start in range(stretch.start, stretch.stop, size)
        ]


@dataclass(frozen=True)
class EvalOrder:
    """Order of the images of one rank in an evaluation: over all ranks every image once."""

    num_samples: int
    batch_size: int
    rank: int
    world_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches of this rank."""
        return -(-len(range(self.rank, self.num_samples, self.world_size)) // self.batch_size)

    def batches(self, epoch: int, first_step: int = 0) -> list[NDArray[np.uint64]]:
        """Sample numbers of this rank's batches from first_step on, uint64, the last one shorter; the same in any epoch."""
        samples = np.arange(self.rank, self.num_samples, self.world_size, dtype=np.uint64)
        return [samples[start : start + self.batch_size] for start in range(0, len(samples), self.batch_size)][first_step:]

    def read_schedule(self, epoch: int, first_step: int = 0) -> None:
        """None: an evaluation reads the file from beginning to end, which the kernel detects by itself."""
