"""Takes FFCV pipelines, gives them our operations behind the decoders: augmenting, finishing, labels and soft targets.

Each is an ordinary FFCV operation; see `decode_ops` for what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
from numba import carray

from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import fill_of, policy_of
from deit_fast.config import AugmentConfig
from deit_fast.data.load.ffcv_repairs import repair_ffcv
from deit_fast.kernels import erase, finish, mix, operations, policy, rng
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.resample import BICUBIC
from deit_fast.kernels.round import PRECISIONS
from deit_fast.kernels.transpose import void_pointer

IMAGE_DTYPES = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}


@compiled()
def _draw_steps(seed, ids, table_at, num_rows, numbers, side, codes, arguments):  # type: ignore[no-untyped-def]
    """`policy.draw_steps` of a policy whose table is at an address: code that a stock loader compiles takes no arrays along."""
    drawn = policy.Policy(carray(void_pointer(table_at), (num_rows, 5), np.float64), *numbers)
    policy.draw_steps(seed, ids, drawn, side, side, codes, arguments)


@compiled()
def _memory_at(address, num_rows, num_columns):  # type: ignore[no-untyped-def]
    return carray(void_pointer(address), (num_rows, num_columns), np.uint8)


class AugmentViews(Operation):
    """uint8 (H, W, 3) views, in place: what the policy and the colour jitter draw for each.

    interpolation: of turning and shearing, bicubic unless it is bilinear. num_workers: threads that may run it; 0: as many as
    Numba may start.
    """

    def __init__(self, augment: AugmentConfig, seed: int, interpolation: str = "bicubic", *, num_workers: int = 0) -> None:
        super().__init__()
        repair_ffcv()
        self.policy = policy_of(augment, interpolation)
        self._seed = np.uint64(seed)
        self._fill = fill_of(augment)
        self._num_workers = num_workers or numba.config.NUMBA_NUM_THREADS
        self._scratch = np.empty((0, 0), np.uint8)
        self._side = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scratch": np.empty((0, 0), np.uint8)}  # a copy has its own, made where code is generated

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        self._side = previous_state.shape[0]
        return previous_state, None

    def generate_code(self) -> Callable[..., Any]:
        if self._scratch.shape[1] != operations.scratch_bytes(self._side, self._side):
            self._scratch = np.empty((self._num_workers, operations.scratch_bytes(self._side, self._side)), np.uint8)
        scratch, table, numbers = self._scratch, self.policy.table, tuple(self.policy[1:])
        scratch_at, table_at = (scratch.ctypes.data, *scratch.shape), table.ctypes.data
        num_rows, num_steps, is_bicubic = len(table), self.policy.num_steps, self.policy.interpolation == BICUBIC
        seed, fill = self._seed, self._fill
        draw_steps, memory_at, apply_all = _draw_steps, _memory_at, operations.apply_all

        def augment_views(views, memory, ids):  # type: ignore[no-untyped-def]
            codes = np.empty((len(ids), num_steps), np.int32)
            arguments = np.empty((len(ids), num_steps), np.float64)
            draw_steps(seed, ids, table_at, num_rows, numbers, views.shape[1], codes, arguments)
            apply_all(codes, arguments, is_bicubic, fill, views, memory_at(scratch_at[0], scratch_at[1], scratch_at[2]))
            return views

        augment_views.with_indices = True  # type: ignore[attr-defined]
        augment_views.keep = (scratch, table)  # type: ignore[attr-defined]  # live as long as the code that points into them
        return augment_views


class Finish(Operation):
    """uint8 (H, W, 3) views to images: normalised and, unless `seed` is None, erased and mixed within the batch.

    dtype: float32, float16 or bfloat16, which NumPy and FFCV do not know: there its bits come as uint16.
    """

    def __init__(self, augment: AugmentConfig, seed: int | None, dtype: str = "float32", *, num_workers: int = 0) -> None:
        super().__init__()
        repair_ffcv()
        self._seed = np.uint64(seed or 0)
        self._mixing = mixing_of(augment) if seed is not None else mixing_of(augment)._replace(probability=0.0)
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
        stored_as = np.float32 if self._dtype == np.float32 else np.uint16
        mix_of, draw_boxes, finish_views = mix.mix_of, erase.draw_boxes, finish.finish_views

        def finish_batch(views, images, ids):  # type: ignore[no-untyped-def]
            mixed = mix_of(seed, ids, how, views.shape[1], views.shape[2])
            boxes = np.empty((len(ids), 4), np.int64)
            draw_boxes(seed, ids, probability, views.shape[1], views.shape[2], boxes)
            written = images[: len(ids)]
            bits = written.view(stored_as)
            finish_views(views, ids, seed, mixed, boxes, erase_mode, mean, std, precision, num_workers, bits)
            return written

        finish_batch.with_indices = True  # type: ignore[attr-defined]
        return finish_batch


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
        repair_ffcv()
        self.resolution = resolution
        self._num_classes = num_classes
        self._smoothing = augment.label_smoothing
        self._seed = np.uint64(seed)
        self._mixing = mixing_of(augment)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        dtype = np.dtype("<f4")
        state = replace(previous_state, shape=(self._num_classes,), dtype=dtype)
        return state, AllocationQuery((self._num_classes,), dtype)

    def generate_code(self) -> Callable[..., Any]:
        seed, how, smoothing, side = self._seed, self._mixing, self._smoothing, self.resolution
        mix_of, soft_targets = mix.mix_of, mix.soft_targets

        def make_targets(labels, targets, ids):  # type: ignore[no-untyped-def]
            mixed = mix_of(seed, ids, how, side, side)
            soft_targets(labels[:, 0], mixed.partner, mixed.lam, smoothing, targets[: len(ids)])
            return targets[: len(ids)]

        make_targets.with_indices = True  # type: ignore[attr-defined]
        return make_targets
