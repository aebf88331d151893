"""Takes FFCV pipelines, gives them our operations: decoding to views, normalising and mixing, labels and soft targets.

Each is an ordinary FFCV operation. A batch index may be a plain sample number, or a view id (see `augment.rng`): the epoch
and the view number in it key the random numbers, so an operation keeps no state between batches. Where view ids are used,
the labels must come through `Label`, which takes the sample number out of them.

The code that an operation generates is a few calls of functions that are compiled once and cached on disk. A stock loader
compiles these calls too, which takes seconds; `data.loader.Loader` runs them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

from deit_fast.augment import crop, finish, rng
from deit_fast.augment.compiled import compiled
from deit_fast.augment.resample import FILTERS
from deit_fast.config import AugmentConfig, RankError
from deit_fast.data import decode
from deit_fast.data.ffcv_repairs import repair_ffcv


class _DecodeViews(SimpleRGBImageDecoder):
    """Decodes stored images and resamples what a plan shows of each; gives uint8 (resolution, resolution, 3), RGB.

    FFCV recognises a decoder by its class, hence the base class. Unlike FFCV's decoders it decodes with the accurate DCT,
    resamples as Pillow does, and keeps the status of each image, which `check` turns into an error.
    """

    def __init__(self, resolution: int, interpolation: str) -> None:
        super().__init__()
        repair_ffcv()
        self.resolution = resolution
        self._filter = FILTERS[interpolation]
        self._scratch: decode.Scratch | None = None

    def _make_plans(self) -> Callable[..., None]:
        """A compilable function (ids, heights, widths, resolution, plans) that fills plans."""
        raise NotImplementedError

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, tuple[AllocationQuery, ...]]:
        shape = (self.resolution, self.resolution, 3)
        dtype = np.dtype("<u1")
        state = replace(previous_state, jit_mode=True, shape=shape, dtype=dtype)
        statuses = AllocationQuery((), np.dtype("<i4"))
        locations = AllocationQuery((2,), np.dtype("<i8"))
        plans = AllocationQuery((crop.PLAN_LENGTH,), np.dtype("<i8"))
        return state, (AllocationQuery(shape, dtype), statuses, locations, plans)

    def generate_code(self) -> Callable[..., Any]:
        if self._scratch is None or self._scratch.resolution != self.resolution:
            heights, widths = self.metadata["height"], self.metadata["width"]
            self._scratch = decode.Scratch(numba.config.NUMBA_NUM_THREADS, heights, widths, self.resolution)
        scratch = self._scratch
        layout, kind, read = scratch.layout, self._filter, self.memory_read
        make_plans = Compiler.compile(self._make_plans())
        decode_batch = decode.decode_batch
        sample_of = rng.sample_of

        @numba.njit(nogil=True)
        def locate(ids, metadata, storage_state, locations):  # type: ignore[no-untyped-def]
            for i in range(len(ids)):
                stored = read(metadata[sample_of(ids[i])]["data_ptr"], storage_state)
                locations[i, 0], locations[i, 1] = stored.ctypes.data, stored.size

        def decode_views(ids, memory, metadata, storage_state):  # type: ignore[no-untyped-def]
            views, statuses, locations, plans = memory
            locate(ids, metadata, storage_state, locations)
            make_plans(ids, metadata["height"], metadata["width"], views.shape[1], plans)
            decode_batch(ids, metadata, locations, plans, kind, layout, views, statuses)
            return views[: len(ids)]

        decode_views.scratch = scratch  # type: ignore[attr-defined]  # lives as long as the code that points into it
        return decode_views

    def check(self, statuses: np.ndarray, ids: np.ndarray, storage_state: Any) -> None:
        """Raises RankError naming the sample, its offset and the reason if an image of the batch did not decode.

        statuses (B,) int32: what the decoder left in its second buffer; ids (B,) uint64; storage_state: FFCV's."""
        failed = np.flatnonzero(statuses)
        if not failed.size:
            return
        sample = int(rng.sample_of(ids[failed[0]]))
        field = self.metadata[sample]
        stored = np.array(self.memory_read(field["data_ptr"], storage_state))
        why = decode.reason(int(statuses[failed[0]]), stored, int(field["height"]), int(field["width"]))
        raise RankError(
            f"sample {sample} (offset {int(field['data_ptr'])}, {stored.size} bytes) does not decode: {why}; "
            "the beton is damaged, write it again"
        )


class DecodeTrainViews(_DecodeViews):
    """Random views: RandomResizedCrop and horizontal flip of each image, keyed by the seed and the view id."""

    def __init__(self, resolution: int, seed: int, augment: AugmentConfig, interpolation: str = "bicubic") -> None:
        super().__init__(resolution, interpolation)
        self._seed = np.uint64(seed)
        self._augment = augment

    def _make_plans(self) -> Callable[..., None]:
        seed, scale, ratio = self._seed, self._augment.crop_scale, self._augment.crop_ratio
        flip = float(self._augment.flip)
        plan_random_views = crop.plan_random_views

        def make_plans(ids, heights, widths, resolution, plans):  # type: ignore[no-untyped-def]
            plan_random_views(seed, ids, heights, widths, scale, ratio, flip, resolution, plans)

        return make_plans


class DecodeEvalViews(_DecodeViews):
    """The evaluation view: shorter side resized to resolution / crop_ratio (cut down to an integer), centre crop."""

    def __init__(self, resolution: int, crop_ratio: float = 0.875, interpolation: str = "bicubic") -> None:
        super().__init__(resolution, interpolation)
        self._resized = int(resolution / crop_ratio)

    def _make_plans(self) -> Callable[..., None]:
        resized = self._resized
        plan_centre_views = crop.plan_centre_views

        def make_plans(ids, heights, widths, resolution, plans):  # type: ignore[no-untyped-def]
            plan_centre_views(ids, heights, widths, resized, resolution, plans)

        return make_plans


class _Mixing:
    """How batches are mixed: the same for the images and the targets of a batch, given the same seed."""

    def __init__(self, augment: AugmentConfig, seed: int | None) -> None:
        self._seed = np.uint64(seed or 0)
        self._repeats = augment.repeats
        self._alphas = (float(augment.mixup), float(augment.cutmix))
        probability = 0.0 if seed is None else float(augment.mix_probability)
        self._probabilities = (probability, float(augment.cutmix_probability))

    def generate_code(self) -> Callable[..., Any]:
        """A function (ids, height, width) -> the mix of a batch, as `finish.mixing` gives it."""
        seed, repeats, alphas, probabilities = self._seed, self._repeats, self._alphas, self._probabilities
        mixing = finish.mixing

        def mix_of(ids, height, width):  # type: ignore[no-untyped-def]
            return mixing(seed, ids[0], len(ids), height, width, repeats, alphas, probabilities)

        compiled_or_not: Callable[..., Any] = Compiler.compile(mix_of)
        return compiled_or_not


class Finish(Operation):
    """uint8 (H, W, 3) views to float32 (H, W, 3) images: normalised and, unless `seed` is None, mixed within the batch."""

    def __init__(self, augment: AugmentConfig, seed: int | None) -> None:
        super().__init__()
        self._mixing = _Mixing(augment, seed)
        self._mean, self._std = np.array(augment.mean), np.array(augment.std)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        dtype = np.dtype("<f4")
        return replace(previous_state, dtype=dtype), AllocationQuery(previous_state.shape, dtype)

    def generate_code(self) -> Callable[..., Any]:
        mix_of, mean, std = self._mixing.generate_code(), self._mean, self._std
        normalize_and_mix = finish.normalize_and_mix

        def finish_views(views, images, ids):  # type: ignore[no-untyped-def]
            normalize_and_mix(views, mix_of(ids, views.shape[1], views.shape[2]), mean, std, images)
            return images[: len(ids)]

        finish_views.with_indices = True  # type: ignore[attr-defined]
        return finish_views


class Label(IntDecoder):
    """FFCV's integer labels, (1,) int64, where batch indices are view ids."""

    def generate_code(self) -> Callable[..., Any]:
        take = _take_labels

        def decode_labels(ids, labels, metadata, storage_state):  # type: ignore[no-untyped-def]
            take(ids, metadata, labels)
            return labels[: len(ids)]

        return decode_labels


@compiled()
def _take_labels(ids, column, labels):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        labels[i, 0] = column[rng.sample_of(ids[i])]


class SoftTargets(Operation):
    """int64 (1,) labels to float32 (num_classes,) targets: smoothed, and mixed as `Finish` with the same seed mixes."""

    def __init__(self, num_classes: int, resolution: int, augment: AugmentConfig, seed: int) -> None:
        super().__init__()
        self.resolution = resolution
        self._num_classes = num_classes
        self._smoothing = augment.label_smoothing
        self._mixing = _Mixing(augment, seed)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        dtype = np.dtype("<f4")
        state = replace(previous_state, shape=(self._num_classes,), dtype=dtype)
        return state, AllocationQuery((self._num_classes,), dtype)

    def generate_code(self) -> Callable[..., Any]:
        mix_of, smoothing, side = self._mixing.generate_code(), self._smoothing, self.resolution
        soft_targets = finish.soft_targets

        def make_targets(labels, targets, ids):  # type: ignore[no-untyped-def]
            soft_targets(labels[:, 0], mix_of(ids, side, side), smoothing, targets)
            return targets[: len(ids)]

        make_targets.with_indices = True  # type: ignore[attr-defined]
        return make_targets
