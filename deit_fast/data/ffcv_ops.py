"""Offers our data path as operations of a stock `ffcv.loader.Loader`: decoding, augmentation, finishing, labels, targets.

A batch index is a plain sample number or a view id (see `kernels.rng`), whose epoch and view number key the random numbers, so
an operation keeps no state between batches. With view ids, the labels must come through `Label`, which extracts the sample
number. A stock loader has only sample numbers: there every epoch shows the same views.

FFCV compiles an operation's generated code anew in each process, which takes seconds, so this code is only a few calls of
functions that are cached on disk. Our own loader uses none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import torch
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from numpy.typing import NDArray

from deit_fast.augment.cropping import eval_cropping, train_cropping
from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import fill_of, policy_of
from deit_fast.config import AugmentConfig, check_sections
from deit_fast.data.load.decode import LENGTHS_ANYWHERE, MAX_DENOMINATOR, Images, Scratch, open_images
from deit_fast.data.load.threading_layer import check_threads
from deit_fast.data.load.views import IMAGE_DTYPES
from deit_fast.kernels import by_address, crop, decode, erase, finish, mix, operations, rng
from deit_fast.kernels.resample import BICUBIC, FILTERS
from deit_fast.kernels.round import PRECISIONS


class _DecodeViews(SimpleRGBImageDecoder):
    """Decodes stored images and resamples a part of each to uint8 (resolution, resolution, 3), RGB.

    FFCV recognises a decoder by its class, hence the base class. Unlike FFCV's decoders it decodes with the accurate DCT and
    resamples as Pillow does; an image that does not decode becomes a black view.

    beton: its path, or opened images. num_workers: threads that may run it; 0: as many as Numba may start.
    """

    def __init__(
        self,
        beton: Images | str,
        resolution: int,
        interpolation: str = "bicubic",
        *,
        dct_scaling: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self._images = open_images(beton) if isinstance(beton, str) else beton
        self._resolution = resolution
        self._num_workers = num_workers or numba.config.NUMBA_NUM_THREADS
        self._filter = FILTERS[interpolation]
        self._max_denominator = MAX_DENOMINATOR if dct_scaling else 1
        self._scratch: Scratch | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scratch": None}  # generate_code makes it anew

    def _how(self) -> tuple[np.uint64, crop.Cropping]:
        """Seed and kind of the crops."""
        raise NotImplementedError

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, tuple[AllocationQuery, ...]]:
        shape, dtype = (self._resolution, self._resolution, 3), np.dtype("<u1")
        statuses = AllocationQuery((), np.dtype("<i4"))
        stored = AllocationQuery((decode.STORED_LENGTH,), np.dtype("<i8"))
        plans = AllocationQuery((crop.PLAN_LENGTH,), np.dtype("<i8"))
        state = replace(previous_state, jit_mode=True, shape=shape, dtype=dtype)
        return state, (AllocationQuery(shape, dtype), statuses, stored, plans)

    def generate_code(self) -> Callable[..., Any]:
        check_threads()
        self._scratch = self._scratch or Scratch(self._num_workers, self._images.largest, self._resolution)
        scratch, images = self._scratch, self._images
        table = np.empty((images.beton.num_samples, decode.STORED_LENGTH), np.int64)
        images.locate(np.arange(len(table), dtype=np.uint64), table)
        table_at, num_samples, lengths, layout = table.ctypes.data, len(table), LENGTHS_ANYWHERE, scratch.layout
        kind, scaling, resolution = self._filter, decode.scaling_of(self._max_denominator), self._resolution
        group_at = decode.GROUP.address
        seed, how = self._how()
        read = self.memory_read
        locate, plan_views, sample_of = by_address.locate.cached, crop.plan_views.cached, rng.sample_of.cached
        decode_batch = decode.decode_batch_by
        start, size, height, width = decode.START, decode.SIZE, decode.HEIGHT, decode.WIDTH

        def decode_views(ids, memory, metadata, storage_state):  # type: ignore[no-untyped-def]
            views, statuses, stored, plans = memory
            locate(ids, table_at, num_samples, stored)
            for i in range(len(ids)):  # FFCV's memory manager may hold them anywhere: "the file" starts at address 0
                encoded = read(metadata[sample_of(ids[i])]["data_ptr"], storage_state)
                stored[i, start], stored[i, size] = encoded.ctypes.data, encoded.size
            plan_views(seed, ids, how, stored[:, height], stored[:, width], resolution, plans)
            decode_batch(group_at, ids, stored, 0, lengths, plans, kind, scaling, layout, views, statuses)
            return views[: len(ids)]

        decode_views.keep = (scratch, images, table)  # type: ignore[attr-defined]  # live as long as the code that points there
        return decode_views


class DecodeTrainViews(_DecodeViews):
    """Random views: a crop and a horizontal flip of each image, keyed by the seed and the view id.

    centre_ratio: with augment.crop=centre, side of the crop over the shorter side of the resized image.
    """

    def __init__(
        self,
        beton: Images | str,
        resolution: int,
        seed: int,
        augment: AugmentConfig,
        *args: Any,
        centre_ratio: float = 0.875,
        **options: Any,
    ) -> None:
        super().__init__(beton, resolution, *args, **options)
        self._arguments = np.uint64(seed), train_cropping(augment, resolution, centre_ratio)

    def _how(self) -> tuple[np.uint64, crop.Cropping]:
        return self._arguments


class DecodeEvalViews(_DecodeViews):
    """The evaluation view: shorter side resized to resolution / crop_ratio (rounded down), then a centre crop."""

    def __init__(self, beton: Images | str, resolution: int, crop_ratio: float = 0.875, *args: Any, **options: Any) -> None:
        super().__init__(beton, resolution, *args, **options)
        self._cropping = eval_cropping(resolution, crop_ratio)

    def _how(self) -> tuple[np.uint64, crop.Cropping]:
        return np.uint64(0), self._cropping


class AugmentViews(Operation):
    """Augments uint8 (H, W, 3) views in place with what the policy and the colour jitter draw for each.

    interpolation: for rotating and shearing, bicubic unless it is bilinear. num_workers: threads that may run it; 0: as many
    as Numba may start.
    """

    def __init__(self, augment: AugmentConfig, seed: int, interpolation: str = "bicubic", *, num_workers: int = 0) -> None:
        super().__init__()
        check_sections(augment=augment)
        self._policy = policy_of(augment, interpolation)
        self._seed = np.uint64(seed)
        self._fill = fill_of(augment)
        self._num_workers = num_workers or numba.config.NUMBA_NUM_THREADS
        self._side = 0

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        self._side = previous_state.shape[0]
        return previous_state, None

    def generate_code(self) -> Callable[..., Any]:
        scratch: NDArray[np.uint8] = np.empty((self._num_workers, operations.scratch_bytes(self._side, self._side)), np.uint8)
        table, numbers = self._policy.table, tuple(self._policy[1:])
        scratch_at, table_at = (scratch.ctypes.data, *scratch.shape), table.ctypes.data
        num_rows, num_steps, is_bicubic = len(table), self._policy.num_steps, self._policy.interpolation == BICUBIC
        seed, fill, apply_at = self._seed, self._fill, operations.APPLY.address
        draw_steps, bytes_at, apply_all = by_address.draw_steps.cached, by_address.bytes_at.cached, operations.apply_all_by

        def augment_views(views, nothing, ids):  # type: ignore[no-untyped-def]
            codes = np.empty((len(ids), num_steps), np.int32)
            arguments = np.empty((len(ids), num_steps), np.float64)
            draw_steps(seed, ids, table_at, num_rows, numbers, views.shape[1], codes, arguments)
            apply_all(
                apply_at, codes, arguments, is_bicubic, fill, views, bytes_at(scratch_at[0], scratch_at[1], scratch_at[2])
            )
            return views

        augment_views.with_indices = True  # type: ignore[attr-defined]
        augment_views.keep = (scratch, table)  # type: ignore[attr-defined]  # live as long as the code that points there
        return augment_views


class Finish(Operation):
    """Turns uint8 (H, W, 3) views into images: normalises and, unless `seed` is None, erases and mixes within the batch.

    dtype: float32, float16 or bfloat16; NumPy and FFCV do not know bfloat16, so its bits come as uint16.
    """

    def __init__(self, augment: AugmentConfig, seed: int | None, dtype: str = "float32", *, num_workers: int = 0) -> None:
        super().__init__()
        self._seed = np.uint64(seed or 0)
        check_sections(augment=augment)
        mixing = mixing_of(augment)
        self._mixing = mixing if seed is not None else mixing._replace(probability=0.0)
        self._erase_probability = 0.0 if seed is None else float(augment.erase)
        self._erase_mode = erase.MODES[augment.erase_mode]
        self._mean, self._std = np.array(augment.mean), np.array(augment.std)
        self._precision, self._dtype = PRECISIONS[dtype], IMAGE_DTYPES[dtype]
        self._num_workers = num_workers or numba.config.NUMBA_NUM_THREADS

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        return replace(previous_state, dtype=self._dtype), AllocationQuery(previous_state.shape, self._dtype)

    def generate_code(self) -> Callable[..., Any]:
        seed, how, mean, std, precision = self._seed, self._mixing, self._mean, self._std, self._precision
        probability, erase_mode, num_workers = self._erase_probability, self._erase_mode, self._num_workers
        view_at = finish.VIEW.address
        mix_of, draw_boxes, finish_views = mix.mix_of.cached, erase.draw_boxes.cached, finish.finish_views_by

        def finish_batch(views, images, ids):  # type: ignore[no-untyped-def]
            mixed = mix_of(seed, ids, how, views.shape[1], views.shape[2])
            boxes = np.empty((len(ids), 4), np.int64)
            draw_boxes(seed, ids, probability, views.shape[1], views.shape[2], boxes)
            written = images[: len(ids)]
            bits = written.view(np.uint8)
            finish_views(view_at, views, ids, seed, mixed, boxes, erase_mode, mean, std, precision, num_workers, bits)
            return written

        finish_batch.with_indices = True  # type: ignore[attr-defined]
        return finish_batch


class Label(IntDecoder):
    """Reads FFCV's integer labels, (1,) int64, when batch indices are view ids."""

    def generate_code(self) -> Callable[..., Any]:
        take_labels = by_address.take_labels.cached

        def decode_labels(ids, labels, metadata, storage_state):  # type: ignore[no-untyped-def]
            take_labels(ids, metadata, labels)
            return labels[: len(ids)]

        return decode_labels


class SoftTargets(Operation):
    """Turns int64 (1,) labels into float32 (num_classes,) targets, smoothed, and mixed like `Finish` with the same seed."""

    def __init__(self, num_classes: int, resolution: int, augment: AugmentConfig, seed: int) -> None:
        super().__init__()
        self._resolution = resolution
        self._num_classes = num_classes
        check_sections(augment=augment)
        self._smoothing = augment.label_smoothing
        self._seed = np.uint64(seed)
        self._mixing = mixing_of(augment)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        dtype = np.dtype("<f4")
        state = replace(previous_state, shape=(self._num_classes,), dtype=dtype)
        return state, AllocationQuery((self._num_classes,), dtype)

    def generate_code(self) -> Callable[..., Any]:
        seed, how, smoothing, side = self._seed, self._mixing, self._smoothing, self._resolution
        mix_of, soft_targets = mix.mix_of.cached, mix.soft_targets.cached

        def make_targets(labels, targets, ids):  # type: ignore[no-untyped-def]
            mixed = mix_of(seed, ids, how, side, side)
            soft_targets(labels[:, 0], mixed.partner, mixed.lam, smoothing, targets[: len(ids)])
            return targets[: len(ids)]

        make_targets.with_indices = True  # type: ignore[attr-defined]
        return make_targets


class ImagesOnDevice(Operation):
    """Turns uint8 (H, H, 3) views on a CUDA device into images there: augments, normalises, erases, mixes in the batch.

    For a pipeline [one of our decoders, ToTensor(), ToDevice(device), ImagesOnDevice(...), ToTorchImage()], whose labels go
    through `SoftTargets` with the same seed. Gives what `AugmentViews` and `Finish` give on the CPU. dtype: float32, float16 or
    bfloat16. interpolation: for rotating and shearing, bicubic unless it is bilinear.
    """

    def __init__(self, augment: AugmentConfig, seed: int, dtype: str = "float32", interpolation: str = "bicubic") -> None:
        super().__init__()
        self._arguments = augment, seed, dtype, interpolation
        self._dtype = getattr(torch, dtype)
        self._device = torch.device("cpu")

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        self._device = torch.device(previous_state.device)
        query = AllocationQuery(previous_state.shape, dtype=self._dtype, device=self._device)
        return replace(previous_state, jit_mode=False, dtype=self._dtype), query

    def generate_code(self) -> Callable[..., Any]:
        from deit_fast.data.load.gpu_images import DeviceImages  # imports numba-cuda

        device_images = DeviceImages(*self._arguments, self._device)

        def make_images(views, images, ids):  # type: ignore[no-untyped-def]
            images = images[: len(ids)]
            device_images.begin(np.asarray(ids, np.uint64), views.shape[1]).copy_(views, non_blocking=True)
            device_images.finish(images)
            return images

        make_images.with_indices = True  # type: ignore[attr-defined]
        return make_images
