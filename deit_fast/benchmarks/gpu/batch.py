"""A batch of random crops of a beton, planned and gathered by the host: what the GPU's decoder is given."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NoReturn

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.config import RunConfig, UserError
from deit_fast.data.fetch.local import open_here
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.gpu_decode import DeviceMemory, RaggedDecoder
from deit_fast.data.load.loader import num_threads
from deit_fast.data.load.views import NO_VIEW, HostViews, Recipe, Work
from deit_fast.kernels import rng
from deit_fast.kernels.gather import Totals
from deit_fast.kernels.jpeg import device_tables
from deit_fast.kernels.resample import FILTERS


def view_ids(num_samples: int, batch_size: int, repeats: int, count: int, seed: int) -> list[NDArray[np.uint64]]:
    """`count` batches (batch_size,) uint64 of random samples, `repeats` views of each beside each other."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    copies = np.arange(batch_size) % repeats
    batches = []
    for epoch in range(count):
        samples = generator.integers(0, num_samples, -(-batch_size // repeats))
        batches.append(rng.pack_view_ids(epoch, np.repeat(samples, repeats)[:batch_size], copies))
    return batches


class Source:
    """data.train, and the loader's steps on the CPU for its views. Raises UserError if there is no beton."""

    def __init__(self, config: RunConfig, batch_size: int) -> None:
        if not config.data.train:
            raise UserError("data.train is not set: no beton to read")
        self.config = config
        self.beton = open_here(config.data, "train")
        self.images = images_of(self.beton)
        self.side = config.data.resolution
        self.batch_size = batch_size
        self.kind = FILTERS[config.data.interpolation]
        self.num_workers = num_threads(config.data, 1)
        numba.set_num_threads(self.num_workers)  # as the loader's thread does: parallel regions wait for all threads
        recipe = Recipe(config.data, config.augment, self.beton.num_classes, config.train.seed)
        sizes = {"batch_size": batch_size, "num_workers": self.num_workers}
        self._host = HostViews(self.images, recipe, self.side, **sizes, replace=self.refuse)
        self._views = np.empty((batch_size, self.side, self.side, 3), np.uint8)

    @staticmethod
    def refuse(ids: NDArray[np.uint64], failures: list[tuple[int, str]], num_tries: int) -> NoReturn:
        """For `Replace`: a bench takes no other image for one that does not decode."""
        raise UserError(failures[0][1])

    def ids(self, batch_size: int, count: int, repeats: int | None = None) -> list[NDArray[np.uint64]]:
        """`view_ids` of this beton, with augment.repeats unless they are given."""
        repeats = repeats or self.config.augment.repeats
        return view_ids(self.beton.num_samples, batch_size, repeats, count, self.config.train.seed)

    def planned(self, ids: NDArray[np.uint64]) -> Work:
        """The views of a batch, with the random crops of training; valid until the next."""
        work = self._host.begin(ids)
        self._host.locate(work)
        self._host.plan(work)
        return work

    def planned_whole(self, ids: NDArray[np.uint64]) -> Work:
        """The same, but the views show all of their images."""
        work = self._host.begin(ids)
        self._host.locate(work)
        samples = rng.sample_of(ids).astype(np.int64)
        work.plans[:] = 0
        work.plans[:, 2], work.plans[:, 3] = self.beton.heights[samples], self.beton.widths[samples]
        work.plans[:, 4:6] = self.side
        return work

    def decode_on_cpu(self, work: Work) -> NDArray[np.uint8]:
        """The views (B, side, side, 3) of planned work, by the CPU's threads; valid until the next."""
        work.views = self._views[: len(work.ids)]
        self._host.decode(work)
        return work.views


@dataclass(frozen=True, eq=False)
class Sent:
    """A batch as the device's decoder gets it. memory: its first totals.jpegs JPEGs and totals.tiles tiles, not yet decoded.

    images, crops: int64, see `kernels.cuda.tables`; num_left: images that are the CPU's to decode.
    """

    ids: NDArray[np.uint64]
    totals: Totals
    memory: DeviceMemory
    images: NDArray[np.int64]
    crops: NDArray[np.int64]
    num_left: int

    @property
    def num_pixels(self) -> int:
        """Of all JPEGs, under their tiles."""
        return (self.totals.pixels - self.totals.first_pixel) // 3

    @property
    def num_crop_pixels(self) -> int:
        """Pixels of the images that all views together show."""
        return int((self.crops[:, 2] * self.crops[:, 3]).sum())

    @functools.cached_property
    def jpegs(self) -> NDArray[np.int64]:
        """(N, JPEG_LENGTH), see `kernels.jpeg.device_tables`; on the CPU, as the following."""
        return self.memory.jpegs[: self.totals.jpegs].cpu().numpy()

    @functools.cached_property
    def tiles(self) -> NDArray[np.int64]:
        """(T, TILE_LENGTH)"""
        return self.memory.tiles[: self.totals.tiles].cpu().numpy()

    @functools.cached_property
    def encoded(self) -> NDArray[np.uint8]:
        return self.memory.encoded[: self.totals.encoded].cpu().numpy()

    @property
    def num_wanted_blocks(self) -> int:
        """Blocks of 8 x 8 samples that the views depend on."""
        rows = self.jpegs[:, device_tables.WANTED : device_tables.WANTED + 8].reshape(-1, 2, 2, 2)
        of_planes = np.diff(rows, axis=-1)[..., 0].prod(-1)  # of luma, and of each chroma component
        return int((of_planes[:, 0] + (self.jpegs[:, device_tables.NUM_COMPONENTS] - 1) * of_planes[:, 1]).sum())


def send(source: Source, work: Work, device: torch.device) -> Sent:
    """Sends planned work to the device. Raises UserError where there is no JPEG for it among the images."""
    sent: list[tuple[DeviceMemory, Totals]] = []

    def keep(memory: DeviceMemory, totals: Totals) -> None:
        sent.append((memory, totals))

    decoder = RaggedDecoder(source.images, source.kind, num_workers=source.num_workers, device=device, decode=keep)
    decoded = decoder.decode(work.ids, work.stored, work.plans, source.side)
    if not sent:
        raise UserError("data.train holds no JPEGs with tiles: want a beton that `deit-fast write --write.mode=jpg` made")
    ((memory, totals),) = sent
    return Sent(work.ids, totals, memory, decoded.images, decoded.crops, decoder.num_refused)


class HostPart(RaggedDecoder):
    """What the device's decoder does on the CPU for a batch, but for queueing."""

    def gather(self, work: Work, side: int) -> Totals:
        """Describes planned work, and copies its bytes to memory for a transfer."""
        return self._gather(self._hosts[0], work.ids, work.stored, work.plans, side, NO_VIEW)
