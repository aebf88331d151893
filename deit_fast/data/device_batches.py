"""Takes view ids, gives batches that are made on the device: views from the CPU or from the device's own decoder, and images.

The loader's thread queues all of it on a stream of the loader's own; a batch carries the event that ends its making, for which
the stream of whoever takes it waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from deit_fast.augment import cuda, erase
from deit_fast.augment.kernels import finish, plan, policy, resample, tables
from deit_fast.augment.resample import FILTERS
from deit_fast.augment.round import PRECISIONS
from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data import ops
from deit_fast.data.batches import Loader, Made
from deit_fast.data.decode import Stored
from deit_fast.data.decode_gpu import Decoded, DecodeJpegs, RaggedDecoder
from deit_fast.data.threading_layer import one_at_a_time

_NUM_SLOTS = 2  # of the host's memory: one is read by transfers while the other is filled


class _Memory:
    """What lies on the device for batches of up to `capacity` views, used again by each; arrays for kernels of the tensors."""

    def __init__(self, capacity: int, side: int, num_steps: int, device: torch.device) -> None:
        self.capacity, self.side = capacity, side
        # ids, crops, and images, of which there are no more than views: sent together
        lengths = (1, tables.CROP_LENGTH, tables.IMAGE_LENGTH)
        self._ends = np.cumsum([capacity * length for length in lengths]).tolist()
        self._staged = torch.empty(self._ends[-1], dtype=torch.int64, pin_memory=device.type == "cuda")
        self._sent = torch.empty(self._ends[-1], dtype=torch.int64, device=device)
        self._is_sent: torch.cuda.Event | None = None
        parts = zip([0, *self._ends], self._ends, lengths, strict=False)
        ids, crops, images = (self._sent[start:end].view(capacity, length) for start, end, length in parts)
        self.ids, self.crops, self.images = cuda.array(ids.view(-1)), cuda.array(crops), cuda.array(images)
        self.finishing = cuda.array(torch.empty(capacity, tables.FINISH_LENGTH, dtype=torch.int64, device=device))
        self.steps = cuda.array(torch.empty(capacity, max(num_steps, 1), 2, dtype=torch.float64, device=device))
        self.views = torch.empty(capacity, side, side, 3, dtype=torch.uint8, device=device)
        self.flat_views = cuda.array(self.views.view(-1))
        self.views_to_finish = finish.views_array(self.views)
        quads = self.views.numel() // 3 if num_steps else 1
        self.scratch = cuda.array(torch.empty(quads, dtype=torch.uint32, device=device))

    def send(self, *parts: np.ndarray) -> None:
        """Copies int64 arrays to the device: ids (B,), or these and crops (B, CROP_LENGTH) and images (N, IMAGE_LENGTH)."""
        if self._is_sent is not None:
            self._is_sent.synchronize()
        staged = self._staged.numpy()
        end = 0
        for part, start in zip(parts, [0, *self._ends], strict=False):
            end = start + part.size
            staged[start:end] = part.reshape(-1)
        self._sent[:end].copy_(self._staged[:end], non_blocking=True)
        if self._sent.is_cuda:
            self._is_sent = torch.cuda.Event()
            self._is_sent.record()


class DeviceLoader(Loader):
    """A `Loader` of training batches whose images are made on the device, which in the simulator of CUDA is the CPU.

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
        self._kind = FILTERS[config.interpolation]
        self._stored = stored
        self._ragged: RaggedDecoder | None = None
        if decode_jpegs is not None:
            threads = {"num_workers": self.num_workers, "device": self.device}
            self._ragged = RaggedDecoder(decode_jpegs, stored, self._kind, **threads)  # type: ignore[arg-type]
        self._seed = seed
        self._dtype = getattr(torch, config.dtype)
        self._precision = PRECISIONS[config.dtype]
        self._policy = ops.policy_of(augment, config.interpolation)
        self._fill = ops.fill_of(augment)
        self._erase_mode = erase.MODES[augment.erase_mode]
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with self._on_stream():
            levels = torch.from_numpy(finish.levels_of(np.array(augment.mean), np.array(augment.std)))
            self._levels = cuda.array(levels.to(self.device))
            table = self._policy.table if len(self._policy.table) else np.zeros((1, 5))
            there = plan.policy_of(self._policy, cuda.array(torch.from_numpy(table).to(self.device)))
        # which part of an image a view shows is drawn on the CPU, since that is what reads it
        given = plan.cropping(plan.GIVEN)
        self._how = given, there, ops.mixing_of(augment, seed), float(augment.erase)
        self._memory: _Memory | None = None

    @property
    def num_refused(self) -> int:
        return self._ragged.num_refused if self._ragged is not None else 0

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """What is queued within goes to the loader's stream and device."""
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def make_batch(self, ids: np.ndarray, slot: int) -> Made:
        """A batch, queued on the loader's stream. ids (B,) uint64. Raises RankError as `Loader` does."""
        with one_at_a_time(), self._on_stream():
            decoded = self._decode(ids, slot)
            ids = self._replaced(ids, slot)
            targets = self._labels.run(ids, slot)
            images = self._make_images(ids, slot, decoded)
            made = Made(slot, images, torch.from_numpy(targets).to(self.device, non_blocking=True), ids)
            if self._stream is None:
                return made
            made_at = torch.cuda.Event()
            made_at.record()
            return Made(slot, images, made.targets, ids, made_at)

    def _decode(self, ids: np.ndarray, slot: int) -> Decoded | None:
        """Decodes on the device, and on the CPU what is left; None: all on the CPU."""
        everything = slice(0, len(ids))
        if self._ragged is None:
            self._images.decode(ids, slot, everything)
            return None
        side = self._decoder.resolution
        resample.check_size(self._kind, self._stored.max_height, self._stored.max_width, side)
        _, statuses, locations, plans = self._images.memory(0, slot, everything)
        self._images.plan(ids, slot, everything)
        decoded = self._ragged.decode(ids, self._images.metadata, locations, plans, side)
        statuses[:] = 0
        for first, end in runs(decoded.left):
            self._images.decode(ids[first:end], slot, slice(first, end))
        return decoded

    def _make_images(self, ids: np.ndarray, slot: int, decoded: Decoded | None) -> torch.Tensor:
        """Images (B, S, S, 3), of views that are decoded on the device, or by the CPU in the slot's memory."""
        count, side = len(ids), self._decoder.resolution
        memory = self._memory
        if memory is None or memory.side != side:
            memory = self._memory = _Memory(self.batch_size, side, self._policy.num_steps, self.device)
        host_views = torch.from_numpy(self._images.memory(0, slot, slice(0, count))[0])
        if decoded is None:
            memory.send(ids.view(np.int64))
            memory.views[:count].copy_(host_views, non_blocking=True)
        else:
            memory.send(ids.view(np.int64), decoded.crops, decoded.images)
            pixels = cuda.array(decoded.pixels)
            resample.resample(pixels, memory.images, memory.crops, self._kind, side, count, memory.flat_views)
            for first, end in runs(decoded.left):
                memory.views[first:end].copy_(host_views[first:end], non_blocking=True)
        images_and_crops = memory.images, memory.crops
        plan.draw_views(self._seed, memory.ids, count, self._how, side, *images_and_crops, memory.steps, memory.finishing)
        shape = (count, side, side)
        if self._policy.num_steps:
            turning = self._policy.interpolation, self._fill
            policy.apply_steps(memory.steps, memory.flat_views, memory.scratch, shape, *turning)
        # the allocator's: it is the consumer's for as long as that holds it
        images = torch.empty(*shape, 3, dtype=self._dtype, device=self.device)
        how = self._erase_mode, self._precision
        finish.finish(memory.views_to_finish, memory.finishing, self._levels, *how, shape, finish.images_array(images))
        return images


def runs(chosen: np.ndarray) -> Sequence[tuple[int, int]]:
    """(first, end) of each stretch of places that are chosen, (n,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
