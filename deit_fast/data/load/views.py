"""Makes a batch from the ids of its views: locates images, plans crops, decodes, augments, finishes, makes the targets.

`CpuViews` does all of it on CPU threads, in memory reused by each batch; only the results of a batch are in separate slots.
`gpu_views.GpuViews` shares the first steps and makes images on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.augment.cropping import eval_cropping, train_cropping
from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import fill_of, policy_of
from deit_fast.config import AugmentConfig, DataConfig, UserError, eval_crop_ratio, is_mixing
from deit_fast.data.load.activity import ActivityMeter
from deit_fast.data.load.decode import Images, ViewDecoder
from deit_fast.data.load.threading_layer import one_at_a_time
from deit_fast.kernels import crop, decode, erase, finish, mix, operations, policy, rng
from deit_fast.kernels.resample import BICUBIC, FILTERS
from deit_fast.kernels.round import PRECISIONS

# What NumPy has for data.dtype: it does not know bfloat16, whose bits come as uint16
IMAGE_DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
    "uint8": np.dtype(np.uint8),
}

# the compiled functions of each part of the path, without those that they call
DECODING = (crop.plan_views, decode.GROUP.function, decode.decode_batch_by)
HALVING = (decode.HALF.function,)
AUGMENTING = (
    policy.draw_steps, operations.APPLY.function, operations.apply_all_by, mix.mix_of, erase.draw_boxes, finish.VIEW.function,
    finish.finish_views_by, mix.soft_targets, rng.sample_of, rng.view_of,
)  # fmt: skip


_Array: TypeAlias = tuple[tuple[int, ...], np.dtype]  # shape and dtype


class Slot(NamedTuple):
    """Memory of a batch that outlives its making: images (>= B, H, W, 3), targets (>= B, C), or (>= B,) in evaluation."""

    images: NDArray[np.generic]
    targets: NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Made:
    """A batch in a slot, as arrays; or on the device, as tensors, and whole there after the event `ready`.

    images (B, H, W, 3); ids (B,) uint64 are those of the views that it shows. damaged: None, or tells which views (B,) bool
    are not to be shown, since the device found their images damaged. It may wait for the device.
    """

    images: np.ndarray | torch.Tensor
    targets: np.ndarray | torch.Tensor
    ids: NDArray[np.uint64]
    ready: torch.cuda.Event | None = None
    damaged: Callable[[], NDArray[np.bool_]] | None = None


NO_VIEW = np.zeros(0, bool)

# Of ids (B,), the images that did not decode, (position, reason) each, and how often that was so for this batch: writes ids of
# others there, or raises RankError
Replace = Callable[[NDArray[np.uint64], list[tuple[int, str]], int], None]


class Views(Protocol):
    """Makes batches of views, one after another, of up to a number of views at one resolution. meter: charged with seconds."""

    resolution: int
    meter: ActivityMeter

    def make(self, ids: NDArray[np.uint64], slot: Slot, left: NDArray[np.bool_] = NO_VIEW) -> Made:
        """Makes the batch of view ids (B,) in the slot. Raises the errors of `Replace`.

        left (B,): views that are not for the device to decode, in a batch that is made once more; else empty.
        """
        ...

    @property
    def num_refused(self) -> int:
        """Number of JPEGs that the device's decoder has left to the CPU's so far."""
        ...


@dataclass(eq=False)
class Work:
    """Working memory of the current batch, reused by all batches; its rows belong to `ids` (B,) uint64."""

    ids: NDArray[np.uint64]
    stored: NDArray[np.int64]  # (B, STORED_LENGTH), see `kernels.decode`
    plans: NDArray[np.int64]  # (B, PLAN_LENGTH), see `kernels.crop`
    statuses: NDArray[np.int32]  # (B,), of decoding
    views: NDArray[np.uint8]  # (B, side, side, 3)

    def part(self, positions: slice) -> Work:
        """Some positions of the batch."""
        return Work(
            self.ids[positions],
            self.stored[positions],
            self.plans[positions],
            self.statuses[positions],
            self.views[positions],
        )


@dataclass(frozen=True)
class Recipe:
    """Settings of a loader's views. seed: of the random numbers; None: evaluation views, whose `augment` is `eval_augment`."""

    data: DataConfig
    augment: AugmentConfig
    num_classes: int
    seed: int | None

    def __post_init__(self) -> None:
        if self.data.dtype == "uint8" and (is_mixing(self.augment) or self.augment.erase > 0):
            raise UserError(
                "data.dtype=uint8: images are neither mixed nor erased; want augment.mix_probability=0 and augment.erase=0"
            )

    @property
    def is_training(self) -> bool:
        return self.seed is not None

    def cropping(self, resolution: int) -> crop.Cropping:
        """Raises UserError for a resolution that the crop cannot have."""
        ratio = eval_crop_ratio(self.data)
        if self.is_training:
            return train_cropping(self.augment, resolution, ratio)
        return eval_cropping(resolution, ratio)

    def policy(self) -> policy.Policy | None:
        """The policy that is drawn for each view; None if there is none."""
        drawn = policy_of(self.augment, self.data.interpolation)
        return drawn if drawn.num_steps else None

    @property
    def ends_in_views(self) -> bool:
        """Whether the CPU makes uint8 views: because they are wanted, or finished on the device."""
        return self.data.dtype == "uint8" or self.augment.device == "gpu"

    def memory(self, resolution: int) -> dict[str, _Array]:
        """Shape per view, and dtype, of the arrays of a `Work`."""
        side = 0 if self.ends_in_views else resolution  # then views lie in the slot
        return {
            "stored": ((decode.STORED_LENGTH,), np.dtype(np.int64)),
            "plans": ((crop.PLAN_LENGTH,), np.dtype(np.int64)),
            "statuses": ((), np.dtype(np.int32)),
            "views": ((side, side, 3), np.dtype(np.uint8)),
        }

    def slots(self, resolution: int) -> tuple[_Array, _Array]:
        """Shape per view, and dtype, of the two arrays of a `Slot`."""
        targets: _Array = ((self.num_classes,), np.dtype(np.float32)) if self.is_training else ((), np.dtype(np.int64))
        return ((resolution, resolution, 3), IMAGE_DTYPES["uint8" if self.ends_in_views else self.data.dtype]), targets

    def batch_bytes(self, resolution: int, num_slots: int) -> int:
        """Bytes that a loader allocates for each view of a batch."""
        own = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.memory(resolution).values())
        return own + num_slots * sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.slots(resolution))


class HostViews:
    """The steps that run on the CPU wherever images are finished: locate, plan, decode, and the targets."""

    def __init__(
        self, images: Images, recipe: Recipe, resolution: int, *, batch_size: int, num_workers: int, replace: Replace
    ) -> None:
        self.resolution = resolution
        self.meter = ActivityMeter()
        self._images = images
        self._replace = replace
        self._seed = np.uint64(recipe.seed or 0)
        self._cropping = recipe.cropping(resolution)
        self._smoothing = recipe.augment.label_smoothing
        self._is_training = recipe.is_training
        self._mixing = mixing_of(recipe.augment)
        data = recipe.data
        self._decoder = ViewDecoder(
            images, resolution, FILTERS[data.interpolation], dct_scaling=recipe.is_training and data.dct_scaling,
            num_workers=num_workers,
        )  # fmt: skip
        arrays = {name: np.empty((batch_size, *shape), dtype) for name, (shape, dtype) in recipe.memory(resolution).items()}
        self._memory = Work(np.empty(batch_size, np.uint64), **arrays)

    def begin(self, ids: NDArray[np.uint64]) -> Work:
        """Memory for the batch of ids (B,), undefined but for these."""
        work = self._memory.part(slice(0, len(ids)))
        work.ids = ids.copy()  # of which some may be replaced
        return work

    def locate(self, work: Work) -> None:
        """Finds the image of each view in the file."""
        self._images.locate(work.ids, work.stored)

    def plan(self, work: Work) -> None:
        """Plans the part of its image that each view shows."""
        heights, widths = work.stored[:, decode.HEIGHT], work.stored[:, decode.WIDTH]
        crop.plan_views(self._seed, work.ids, self._cropping, heights, widths, self.resolution, work.plans)

    def decode(self, work: Work) -> None:
        """Decodes uint8 views of the images, without augmentation."""
        self._decoder.decode(work.ids, work.stored, work.plans, work.views, work.statuses)

    def failures(self, work: Work) -> list[tuple[int, str]]:
        """The images that did not decode: position in the batch, and a line that says why."""
        return self._decoder.failures(work.ids, work.stored, work.statuses)

    def replace_failures(self, work: Work) -> None:
        """Replaces images that did not decode."""
        num_tries = 0
        while failures := self.failures(work):
            self._replace(work.ids, failures, num_tries)
            num_tries += 1
            for position, _ in failures:
                here = work.part(slice(position, position + 1))
                self.locate(here)
                self.plan(here)
                self.decode(here)

    def draw_mix(self, work: Work) -> mix.Mix:
        """Draws the partner, share and box of each mixed view."""
        return mix.mix_of(self._seed, work.ids, self._mixing, self.resolution, self.resolution)

    def targets(self, work: Work, mixed: mix.Mix, targets: NDArray[np.generic]) -> NDArray[np.generic]:
        """Soft targets (B, C) float32 of the mixed views; in evaluation the labels (B,) int64."""
        written = targets[: len(work.ids)]
        labels = self._images.beton.labels[rng.sample_of(work.ids).astype(np.int64)]
        if self._is_training:
            mix.soft_targets(labels, mixed.partner, mixed.lam, self._smoothing, written)
        else:
            written[:] = labels
        return written


class CpuViews(HostViews):
    """Batches of views made on CPU threads. images: the source; recipe: the settings; resolution: side of a view.

    batch_size: maximum number of views; num_workers: threads; replace: called if an image does not decode.
    """

    num_refused = 0

    def __init__(
        self, images: Images, recipe: Recipe, resolution: int, *, batch_size: int, num_workers: int, replace: Replace
    ) -> None:
        super().__init__(images, recipe, resolution, batch_size=batch_size, num_workers=num_workers, replace=replace)
        augment, dtype = recipe.augment, recipe.data.dtype
        self._policy, self._fill = recipe.policy(), fill_of(augment)
        self._num_workers = num_workers
        self._policy_scratch = np.empty((0, 0), np.uint8)
        if self._policy is not None:
            self._policy_scratch = np.empty((num_workers, operations.scratch_bytes(resolution, resolution)), np.uint8)
        self._erase = float(augment.erase)
        self._erase_mode = erase.MODES[augment.erase_mode]
        self._mean, self._std = np.array(augment.mean), np.array(augment.std)
        self._precision = PRECISIONS.get(dtype)  # None: views are left as they are, uint8

    def make(self, ids: NDArray[np.uint64], slot: Slot, left: NDArray[np.bool_] = NO_VIEW) -> Made:
        work = self.begin(ids)
        if self._precision is None:
            work.views = slot.images[: len(ids)].view(np.uint8)
        with one_at_a_time():
            self.locate(work)
            self.plan(work)
            self.decode(work)
            self.replace_failures(work)
            self.meter.charge("decode")
            self.augment(work)
            self.meter.charge("augment")
            mixed = self.draw_mix(work)
            images = self.finish(work, mixed, slot.images)
            made = Made(images, self.targets(work, mixed, slot.targets), work.ids)
            self.meter.charge("finish")
            return made

    def augment(self, work: Work) -> None:
        """Applies policy and colour jitter to each view, in place."""
        if self._policy is None:
            return
        codes = np.empty((len(work.ids), self._policy.num_steps), np.int32)
        arguments = np.empty((len(work.ids), self._policy.num_steps), np.float64)
        policy.draw_steps(self._seed, work.ids, self._policy, self.resolution, self.resolution, codes, arguments)
        is_bicubic = self._policy.interpolation == BICUBIC
        operations.apply_all(codes, arguments, is_bicubic, self._fill, work.views, self._policy_scratch)

    def finish(self, work: Work, mixed: mix.Mix, images: NDArray[np.generic]) -> NDArray[np.generic]:
        """Images (B, side, side, 3): the views normalised, erased and mixed; the views themselves if they stay uint8."""
        if self._precision is None:
            return work.views
        boxes = np.empty((len(work.ids), 4), np.int64)
        erase.draw_boxes(self._seed, work.ids, self._erase, self.resolution, self.resolution, boxes)
        written = images[: len(work.ids)]
        how = (self._erase_mode, self._mean, self._std, self._precision, self._num_workers)
        finish.finish_views(work.views, work.ids, self._seed, mixed, boxes, *how, written)
        return written
