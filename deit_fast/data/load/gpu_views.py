"""Batches of views made on the device: decoded by the CPU or by the device's own decoder, finished by kernels.

The loader's thread queues all work on the loader's own stream; a batch carries an event that marks its end, for which the
consumer's stream waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.data.load.decode import Images
from deit_fast.data.load.gpu_decode import Decoded, RaggedDecoder
from deit_fast.data.load.gpu_images import DeviceImages, runs
from deit_fast.data.load.threading_layer import one_at_a_time
from deit_fast.data.load.views import NO_VIEW, HostViews, Made, Recipe, Replace, Slot, Work

NUM_SLOTS = 2  # of the host's memory: one is read by transfers while the other is filled


class GpuViews(HostViews):
    """Batches of views finished on the device; arguments as for `CpuViews`.

    Also decoded there if the recipe says so: `num_refused` counts the JPEGs that the device was not given or did not decode,
    and that the CPU decoded.
    """

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        resolution: int,
        *,
        batch_size: int,
        num_workers: int,
        replace: Replace,
        device: torch.device,
    ) -> None:
        super().__init__(images, recipe, resolution, batch_size=batch_size, num_workers=num_workers, replace=replace)
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        data = recipe.data
        with self._on_stream():
            self._device_images = DeviceImages(recipe.augment, recipe.seed or 0, data.dtype, data.interpolation, device)
        self._ragged: RaggedDecoder | None = None
        if data.decode == "gpu":
            self._ragged = RaggedDecoder(images, self._device_images.kind, num_workers=num_workers, device=device)

    @property
    def num_refused(self) -> int:
        return self._ragged.num_refused if self._ragged is not None else 0

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """Queues the work inside the block on the loader's stream and device."""
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield

    def make(self, ids: NDArray[np.uint64], slot: Slot, left: NDArray[np.bool_] = NO_VIEW) -> Made:
        work = self.begin(ids)
        work.views = slot.images[: len(ids)].view(np.uint8)
        with one_at_a_time(), self._on_stream():
            self.locate(work)
            self.plan(work)
            decoded = self.decode_there(work, left)
            self.replace_failures(work)
            self.meter.charge("decode")
            targets = self.targets(work, self.draw_mix(work), slot.targets)
            targets_there = torch.from_numpy(targets).to(self._device, non_blocking=True)
            images, ready = self.finish(work, decoded)
            self.meter.charge("finish")
            return Made(images, targets_there, work.ids, ready, decoded.damaged if decoded is not None else None)

    def decode_there(self, work: Work, left: NDArray[np.bool_]) -> Decoded | None:
        """Decodes on the device, and on the CPU what is left; None: all on the CPU."""
        if self._ragged is None:
            self.decode(work)
            return None
        decoded = self._ragged.decode(work.ids, work.stored, work.plans, self.resolution, left)
        work.statuses[:] = 0
        for first, end in runs(decoded.left):
            self.decode(work.part(slice(first, end)))
        return decoded

    def finish(self, work: Work, decoded: Decoded | None) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """Images (B, side, side, 3) on the device, from views decoded there, or by the CPU into the slot's memory; and the
        event after which they are whole."""
        views = self._device_images.begin(work.ids, self.resolution, decoded)
        for first, end in [(0, len(work.ids))] if decoded is None else runs(decoded.left):
            views[first:end].copy_(torch.from_numpy(work.views[first:end]), non_blocking=True)
        # the allocator's: it is the consumer's for as long as that holds it
        images = torch.empty(views.shape, dtype=self._device_images.dtype, device=self._device)
        return images, self._device_images.finish(images)
