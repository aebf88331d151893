"""Takes FFCV pipelines, gives them the augmentation that runs on the device, behind `ToDevice`, in a stock loader too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

from deit_fast.config import AugmentConfig
from deit_fast.data.load.device_images import DeviceImages


class ImagesOnDevice(Operation):
    """uint8 (H, H, 3) views in tensors on a CUDA device to images there: augmented, normalised, erased, mixed in the batch.

    For a pipeline [decoder of `decode_ops`, ToTensor(), ToDevice(device), ImagesOnDevice(...), ToTorchImage()], whose labels
    go through `ops.SoftTargets` with the same seed. What it gives is what `ops.AugmentViews` and `ops.Finish` give on the CPU.
    dtype: float32, float16 or bfloat16. interpolation: of turning and shearing, bicubic unless it is bilinear.
    """

    def __init__(self, augment: AugmentConfig, seed: int, dtype: str = "float32", interpolation: str = "bicubic") -> None:
        super().__init__()
        self._arguments = augment, seed, dtype, interpolation
        self._dtype = getattr(torch, dtype)
        self._images: DeviceImages | None = None
        self._device = torch.device("cpu")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None}  # which point into memory of a device, and are made anew

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        self._device = torch.device(previous_state.device)
        query = AllocationQuery(previous_state.shape, dtype=self._dtype, device=self._device)
        return replace(previous_state, jit_mode=False, dtype=self._dtype), query

    def generate_code(self) -> Callable[..., Any]:
        if self._images is None:
            self._images = DeviceImages(*self._arguments, self._device)
        device_images = self._images

        def make_images(views, images, ids):  # type: ignore[no-untyped-def]
            images = images[: len(ids)]
            device_images.begin(np.asarray(ids, np.uint64), views.shape[1]).copy_(views, non_blocking=True)
            device_images.finish(images)
            return images

        make_images.with_indices = True  # type: ignore[attr-defined]
        return make_images
