"""Takes view ids, gives batches that are made on the device: views from the CPU or from the device's own decoder, and images.

The loader's thread queues all of it on a stream of the loader's own; a batch carries the event that ends its making, for which
the stream of whoever takes it waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.batches import Loader, Made
from deit_fast.data.load.decode import Stored
from deit_fast.data.load.decode_gpu import Decoded, DecodeJpegs, RaggedDecoder
from deit_fast.data.load.device_images import DeviceImages, runs
from deit_fast.data.load.threading_layer import one_at_a_time
from deit_fast.kernels.cuda import resample

_NUM_SLOTS = 2  # of the host's memory: one is read by transfers while the other is filled


class DeviceLoader(Loader):
    """A `Loader` of training batches whose images are made on the device.

    decode_jpegs: of `decode_gpu`, to decode there too; None: the CPU decodes. `num_refused` counts the JPEGs that the device's
    decoder was not given or refused, which the CPU's decoded, in all epochs so far.
    """

    def __init__(
        self,
        *arguments: Any,
        config: DataConfig,
        augment: AugmentConfig,
        stored: Stored,
        seed: int,
        decode_jpegs: DecodeJpegs | None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, config=config, **options)
        self.num_slots = _NUM_SLOTS
        self._stored = stored
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with self._on_stream():
            self._device_images = DeviceImages(augment, seed, config.dtype, config.interpolation, self.device)
        self._ragged: RaggedDecoder | None = None
        if decode_jpegs is not None:
            threads: dict[str, Any] = {"num_workers": self.num_workers, "device": self.device}
            self._ragged = RaggedDecoder(decode_jpegs, stored, self._device_images.kind, **threads)
        self._check_size(min(config.resolution, config.start_resolution or config.resolution))

    @property
    def num_refused(self) -> int:
        return self._ragged.num_refused if self._ragged is not None else 0

    def set_resolution(self, resolution: int) -> None:
        self._check_size(resolution)
        super().set_resolution(resolution)

    def _check_size(self, resolution: int) -> None:
        """Raises UserError where the device cannot shrink this beton's images so much; the CPU can."""
        if self._ragged is not None:
            resample.check_size(self._device_images.kind, self._stored.max_height, self._stored.max_width, resolution)

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """What is queued within goes to the loader's stream and device."""
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def make_batch(self, ids: np.ndarray) -> Made:
        """A batch, queued on the loader's stream. ids (B,) uint64. Raises RankError as `Loader` does."""
        slot, labels_slot = self._images.slots.take(), self._labels.slots.take()
        with one_at_a_time(), self._on_stream():
            decoded = self._decode(ids, slot)
            ids = self._replaced(ids, slot)
            targets = torch.from_numpy(self._labels.run(ids, labels_slot)).to(self.device, non_blocking=True)
            images = self._make_images(ids, slot, decoded)
            if self._stream is None:
                return Made(images, targets, ids)
            ready = torch.cuda.Event()
            ready.record()
            self.read_until(slot, labels_slot, ready)
            return Made(images, targets, ids, ready)

    def _decode(self, ids: np.ndarray, slot: np.ndarray) -> Decoded | None:
        """Decodes on the device, and on the CPU what is left; None: all on the CPU."""
        everything = slice(0, len(ids))
        if self._ragged is None:
            self._images.decode(ids, slot, everything)
            return None
        side = self._decoder.resolution
        _, statuses, locations, plans = self._images.memory(0, slot, everything)
        self._images.plan(ids, slot, everything)
        decoded = self._ragged.decode(ids, self._images.metadata, locations, plans, side)
        statuses[:] = 0
        for first, end in runs(decoded.left):
            self._images.decode(ids[first:end], slot, slice(first, end))
        return decoded

    def _make_images(self, ids: np.ndarray, slot: np.ndarray, decoded: Decoded | None) -> torch.Tensor:
        """Images (B, S, S, 3), of views that are decoded on the device, or by the CPU in the slot's memory."""
        host_views = torch.from_numpy(self._images.memory(0, slot, slice(0, len(ids)))[0])
        views = self._device_images.begin(ids, self._decoder.resolution, decoded)
        for first, end in [(0, len(ids))] if decoded is None else runs(decoded.left):
            views[first:end].copy_(host_views[first:end], non_blocking=True)
        # the allocator's: it is the consumer's for as long as that holds it
        images = torch.empty(views.shape, dtype=self._device_images.dtype, device=self.device)
        self._device_images.finish(images)
        return images
