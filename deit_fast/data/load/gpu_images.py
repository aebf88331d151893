"""Finishes images on the GPU: resamples, augments, normalises, erases and mixes them.

All work is queued on the current stream, in reused memory: a batch waits, on the device, for the one before. In the simulator
of CUDA the device is the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import fill_of, policy_of
from deit_fast.config import AugmentConfig
from deit_fast.data.load.gpu_decode import Decoded
from deit_fast.kernels import crop, erase
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.cuda import driver as cuda
from deit_fast.kernels.cuda import finish, plan, policy, resample, tables
from deit_fast.kernels.resample import FILTERS
from deit_fast.kernels.round import PRECISIONS


class _Memory(HoldsAddresses):
    """Device memory for batches of up to `capacity` views, reused by each, with arrays for the kernels on the tensors."""

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
            self._is_sent = self._is_sent or torch.cuda.Event()
            self._is_sent.record()


class DeviceImages(HoldsAddresses):
    """Makes images of one batch after another: `begin` it, bring views or decoded images, and `finish`.

    dtype: float32, float16 or bfloat16. interpolation: of crops; also of rotations and shears if it is bilinear.
    """

    def __init__(self, augment: AugmentConfig, seed: int, dtype: str, interpolation: str, device: torch.device) -> None:
        self.dtype = getattr(torch, dtype)
        self.kind = FILTERS[interpolation]
        self._device = device
        self._seed = seed
        self._precision = PRECISIONS[dtype]
        self._policy = policy_of(augment, interpolation)
        self._fill = fill_of(augment)
        self._erase_mode = erase.MODES[augment.erase_mode]
        levels = torch.from_numpy(finish.levels_of(np.array(augment.mean), np.array(augment.std)))
        self._levels = cuda.array(levels.to(device))
        table = self._policy.table if len(self._policy.table) else np.zeros((1, 5))
        there = plan.policy_of(self._policy, cuda.array(torch.from_numpy(table).to(device)))
        # which part of an image a view shows is drawn on the CPU, since that is what reads it
        given = crop.cropping(crop.GIVEN)
        self._how = *(cuda.packed(part) for part in (given, there, mixing_of(augment))), float(augment.erase)
        self._memory: _Memory | None = None
        self._is_done: torch.cuda.Event | None = None

    def begin(self, ids: np.ndarray, side: int, decoded: Decoded | None = None) -> torch.Tensor:
        """Memory for the batch's views (B, side, side, 3) uint8, on the device; ids (B,) uint64.

        With decoded images the views are filled, except those left to the CPU; otherwise the caller must write all of them.
        """
        count = len(ids)
        memory = self._memory
        if memory is None or memory.side != side or memory.capacity < count:
            memory = self._memory = _Memory(count, side, self._policy.num_steps, self._device)
        if self._is_done is not None:  # of a batch on another stream
            torch.cuda.current_stream(self._device).wait_event(self._is_done)
        if decoded is None:
            memory.send(ids.view(np.int64))
            return memory.views[:count]
        memory.send(ids.view(np.int64), decoded.crops, decoded.images)
        pixels = cuda.array(decoded.pixels)
        resample.resample(pixels, memory.images, memory.crops, self.kind, side, count, memory.flat_views)
        return memory.views[:count]

    def finish(self, images: torch.Tensor) -> torch.cuda.Event | None:
        """Fills images (B, side, side, 3), contiguous, of the `dtype`, from the views in the memory of `begin`.

        Gives the event that marks the end of this on the device; None on a CPU.
        """
        memory = self._memory
        assert memory is not None
        count, side = images.shape[:2]
        shape = (count, side, side)
        tables_of_images = memory.images, memory.crops
        plan.draw_views(self._seed, memory.ids, count, self._how, side, *tables_of_images, memory.steps, memory.finishing)
        if self._policy.num_steps:
            turning = self._policy.interpolation, self._fill
            policy.apply_steps(memory.steps, memory.flat_views, memory.scratch, shape, *turning)
        how = self._erase_mode, self._precision
        finish.finish(memory.views_to_finish, memory.finishing, self._levels, *how, shape, finish.images_array(images))
        if images.is_cuda:
            self._is_done = torch.cuda.Event()
            self._is_done.record()
        return self._is_done


def runs(chosen: np.ndarray) -> Sequence[tuple[int, int]]:
    """(first, end) of each stretch of places that are chosen, (n,) bool."""
    if not chosen.any():  # as a rule
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
