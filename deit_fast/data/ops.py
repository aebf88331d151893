"""Takes FFCV pipelines, gives them our operations behind the decoders: normalising and mixing, labels and soft targets.

Each is an ordinary FFCV operation; see `decode_ops` for what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

from deit_fast.augment import finish, rng
from deit_fast.augment.compiled import compiled
from deit_fast.config import AugmentConfig


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
