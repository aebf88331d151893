"""Decodes a batch's stored images on the GPU, into one buffer.

CPU threads gather the device's input in reused memory. Neighbouring views of one image share it; only the tiles under the views
are copied from a JPEG, only the box under them from raw pixels. The device then decodes all tiles at once. Images that it
does not know are left to the CPU's decoder. Which JPEGs it finds damaged, it tells later: nothing waits for that before the
batch is queued, and a batch with damage is made once more, with these images left to the CPU's decoder, which judges them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.data.load.decode import ANYWHERE, LENGTHS_ANYWHERE, Images
from deit_fast.data.load.views import NO_VIEW
from deit_fast.kernels import gather
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.gather import JOB_LENGTH, Totals
from deit_fast.kernels.jpeg import device_tables

MOST_BYTES = 1 << 30  # with coefficients and samples, a batch takes up to four times as much of the device's memory

# the compiled functions of the host's part, without those that they call
GATHERING = (gather.plan_jobs, gather.gather, gather.finish_jobs, gather.find_damaged)


@dataclass(frozen=True, eq=False)
class Decoded:
    """The images of a batch, for `kernels.resample`.

    pixels: (n,) uint8, on the device, valid until the next batch is decoded. images (N, tables.IMAGE_LENGTH) and crops
    (B, tables.CROP_LENGTH) int64, on the CPU. left (B,) bool: views that are the CPU's to make; their crops show one pixel.
    damaged: for `Made`.
    """

    pixels: torch.Tensor
    images: np.ndarray
    crops: np.ndarray
    left: np.ndarray
    damaged: Callable[[], NDArray[np.bool_]]


class _HostMemory:
    """What transfers read and write: the bytes of JPEGs, raw pixels, both tables, one behind the other, and what the device
    says of the JPEGs; pinned if there is a device. And the jobs of the batch.

    is_read, is_judged: mark the end of the transfers to and from the device of the last batch that used the memory.
    """

    def __init__(self, is_cuda: bool) -> None:
        self._is_pinned = is_cuda
        self.encoded, self.pixels = (torch.empty(0, dtype=torch.uint8) for _ in range(2))
        self.tables, self.statuses = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int32)
        self.jobs = np.empty((0, JOB_LENGTH), np.int64)
        # the thread sleeps while it waits: other threads want its core
        self.is_read, self.is_judged = (torch.cuda.Event(blocking=True) if is_cuda else None for _ in range(2))

    def wait(self) -> None:
        """Until nothing is transferred from or to this memory."""
        for event in (self.is_read, self.is_judged):
            if event is not None:
                event.synchronize()

    def hold(self, capacity: int, totals: Totals) -> None:
        """Room for a batch of up to `capacity` JPEGs."""
        sizes = {
            "encoded": totals.encoded,
            "pixels": totals.raw,
            "tables": _tables_length(capacity, totals),
            "statuses": capacity,
        }
        for name, size in sizes.items():
            setattr(self, name, _at_least(getattr(self, name), size, pinned=self._is_pinned))


@dataclass(frozen=True, eq=False)
class DeviceMemory(HoldsAddresses):
    """What JPEGs are decoded from and into, as `kernels.jpeg.device_tables` says, for up to `capacity` JPEGs.

    encoded, samples, pixels: (n,) uint8; tables: (n,) int64, those of JPEGs and of tiles; bits (n,) int32; coefficients (n,)
    int16; statuses (capacity,) int32.
    """

    capacity: int
    encoded: torch.Tensor
    tables: torch.Tensor
    bits: torch.Tensor
    coefficients: torch.Tensor
    samples: torch.Tensor
    pixels: torch.Tensor
    statuses: torch.Tensor

    @property
    def jpegs(self) -> torch.Tensor:
        """(capacity, JPEG_LENGTH)"""
        return self.tables[: _first_tile(self.capacity)].view(-1, device_tables.JPEG_LENGTH)

    @property
    def tiles(self) -> torch.Tensor:
        """(n, TILE_LENGTH)"""
        numbers = self.tables[_first_tile(self.capacity) :]
        length = device_tables.TILE_LENGTH
        return numbers[: len(numbers) // length * length].view(-1, length)

    def at_least(self, capacity: int, totals: Totals) -> DeviceMemory:
        """This memory, or a larger one if it is too small for a batch of up to `capacity` JPEGs."""
        capacity = max(capacity, self.capacity)
        counts = {
            "encoded": totals.encoded,
            "tables": _tables_length(capacity, totals),
            "bits": device_tables.num_bit_words(totals.encoded, totals.tiles),
            "coefficients": 64 * totals.blocks,
            "samples": 64 * totals.blocks,
            "pixels": max(totals.pixels, gather.ALIGNMENT),
            "statuses": capacity,
        }
        parts = {name: getattr(self, name) for name in counts}
        if capacity == self.capacity and all(part.numel() >= counts[name] for name, part in parts.items()):
            return self
        device = self.statuses.device
        return DeviceMemory(capacity, **{name: _at_least(part, counts[name], device=device) for name, part in parts.items()})

    @functools.cached_property
    def arrays(self) -> tuple[tuple[Any, Any, Any], tuple[Any, ...]]:
        """The same memory as `kernels.cuda.jpeg.decode` takes it: bytes, JPEGs and tiles; and what it writes."""
        from deit_fast.kernels.cuda.driver import array

        def and_words(memory: torch.Tensor) -> tuple[Any, Any]:
            return array(memory), array(memory.view(torch.int32))

        written = array(self.bits), array(self.coefficients), and_words(self.samples), array(self.pixels), array(self.statuses)
        return (and_words(self.encoded), array(self.jpegs), array(self.tiles)), written


def decode_tiles(memory: DeviceMemory, totals: Totals) -> None:
    """Queues the kernels that decode a batch's JPEGs. Zero before: the batch's part of coefficients and statuses."""
    from deit_fast.kernels.cuda import jpeg

    read, written = memory.arrays
    jpeg.decode(*read, totals.jpegs, *written)


Decode = Callable[[DeviceMemory, Totals], None]


class RaggedDecoder:
    """Decodes one batch after another, in memory that grows with the largest of them.

    `num_refused` counts the JPEGs that the device was not given or did not decode; a copy of a sample is not counted again.
    `most_bytes`: of a batch's pixels on the device; further images are left to the CPU.
    """

    def __init__(
        self, images: Images, kind: int, *, num_workers: int, device: torch.device, decode: Decode | None = None
    ) -> None:
        """kind: of `resample.FILTERS`; decode: in place of `decode_tiles`."""
        self.num_refused = 0
        self.most_bytes = MOST_BYTES
        self._decode_tiles = decode or decode_tiles
        self._images = images  # keeps the files mapped: rows of `stored` hold addresses in them
        self._kind = kind
        self._num_workers = num_workers
        is_cuda = device.type == "cuda"
        self._capacity = 0  # views of the largest batch so far
        self._jpegs = np.empty((0, device_tables.JPEG_LENGTH), np.int64)
        # one is read by transfers, and then judged, while the other is filled
        self._hosts = [_HostMemory(is_cuda) for _ in range(2)]
        parts = [torch.empty(0, dtype=kind, device=device) for kind in _KINDS]
        self._there = DeviceMemory(0, *parts)

    def decode(
        self,
        ids: NDArray[np.uint64],
        stored: NDArray[np.int64],
        plans: NDArray[np.int64],
        side: int,
        left: NDArray[np.bool_] = NO_VIEW,
    ) -> Decoded:
        """Decodes the images of ids (B,). stored, plans: as for `kernels.decode.decode_batch`; side: of a view.

        left (B,): views that are to be left to the CPU, in a batch that is decoded once more; else empty. Queues work on the
        device's current stream, which must be the only one that uses memory freed there, and waits for nothing but the
        transfers of the batch before the last one. Ask this batch's `damaged` before the next but one is decoded.
        """
        if not len(left):
            self._hosts.reverse()
        # a batch that is decoded once more stays in its own: the other is of the next, which is still to be judged
        host = self._hosts[1 if len(left) else 0]
        totals = self._gather(host, ids, stored, plans, side, left)
        jobs = host.jobs[: totals.jobs]
        self._there = self._there.at_least(self._capacity, totals)
        self._send(host, totals)
        if totals.jpegs:
            self._there.statuses[: totals.jpegs].zero_()
            self._there.coefficients[: 64 * totals.blocks].zero_()
            self._decode_tiles(self._there, totals)
            host.statuses[: totals.jpegs].copy_(self._there.statuses[: totals.jpegs], non_blocking=True)
            if host.is_judged is not None:
                host.is_judged.record()
        images = np.empty((totals.jobs, tables.IMAGE_LENGTH), np.int64)
        crops, not_made = np.empty((len(ids), tables.CROP_LENGTH), np.int64), np.empty(len(ids), bool)
        written = images, crops, not_made
        num_left = gather.finish_jobs(jobs, self._jpegs, stored, plans, np.int64(side), *written)
        if not len(left):
            self.num_refused += num_left
        return Decoded(self._there.pixels, *written, functools.partial(self._damaged, host, totals, len(ids)))

    def _damaged(self, host: _HostMemory, totals: Totals, num_views: int) -> NDArray[np.bool_]:
        damaged = np.zeros(num_views, bool)
        if totals.jpegs:
            if host.is_judged is not None:
                host.is_judged.synchronize()
            self.num_refused += gather.find_damaged(host.jobs[: totals.jobs], host.statuses.numpy(), damaged)
        return damaged

    def _gather(
        self,
        host: _HostMemory,
        ids: NDArray[np.uint64],
        stored: NDArray[np.int64],
        plans: NDArray[np.int64],
        side: int,
        left: NDArray[np.bool_],
    ) -> Totals:
        """Fills the host's memory with all that the device needs of the batch."""
        self._capacity = capacity = max(self._capacity, len(ids))
        if len(self._jpegs) < capacity:
            self._jpegs = np.empty((capacity, device_tables.JPEG_LENGTH), np.int64)
        if len(host.jobs) < capacity:
            host.jobs = np.empty((capacity, JOB_LENGTH), np.int64)
        host.wait()
        where = stored, ANYWHERE, LENGTHS_ANYWHERE
        how = np.int64(self._kind), np.int64(side), left if len(left) else np.zeros(len(ids), bool), np.int64(self.most_bytes)
        totals = Totals(*gather.plan_jobs(ids, *where, plans, *how, self._num_workers, host.jobs, self._jpegs))
        host.hold(capacity, totals)
        numbers = host.tables.numpy()
        numbers[: totals.jpegs * device_tables.JPEG_LENGTH] = self._jpegs[: totals.jpegs].reshape(-1)
        first = _first_tile(capacity)
        tiles = numbers[first : first + totals.tiles * device_tables.TILE_LENGTH].reshape(-1, device_tables.TILE_LENGTH)
        jobs, written = host.jobs[: totals.jobs], (host.encoded.numpy(), tiles, host.pixels.numpy())
        gather.gather(*where, jobs, self._jpegs, self._num_workers, *written)
        return totals

    def _send(self, host: _HostMemory, totals: Totals) -> None:
        """Queues the transfers of a batch."""
        there = self._there
        if totals.jpegs:
            length = _tables_length(there.capacity, totals)
            there.tables[:length].copy_(host.tables[:length], non_blocking=True)
            there.encoded[: totals.encoded].copy_(host.encoded[: totals.encoded], non_blocking=True)
        if totals.raw:
            there.pixels[: totals.raw].copy_(host.pixels[: totals.raw], non_blocking=True)
        if host.is_read is not None:
            host.is_read.record()


# of a DeviceMemory, in its order
_KINDS = torch.uint8, torch.int64, torch.int32, torch.int16, torch.uint8, torch.uint8, torch.int32


def _first_tile(capacity: int) -> int:
    """Where the table of tiles begins, behind that of so many JPEGs."""
    return capacity * device_tables.JPEG_LENGTH


def _tables_length(capacity: int, totals: Totals) -> int:
    return _first_tile(capacity) + totals.tiles * device_tables.TILE_LENGTH


def _at_least(memory: torch.Tensor, count: int, *, pinned: bool = False, device: torch.device | None = None) -> torch.Tensor:
    """The memory (n,), or a larger one where that is too small."""
    if memory.numel() >= count:
        return memory
    return torch.empty(count + count // 4, dtype=memory.dtype, pin_memory=pinned, device=device)
