"""Takes FFCV pipelines, gives them our decoders: stored images to training or evaluation views.

Each is an ordinary FFCV operation. A batch index may be a plain sample number, or a view id (see `kernels.rng`): the epoch
and the view number in it key the random numbers, so an operation keeps no state between batches. Where view ids are used,
the labels must come through `ops.Label`, which takes the sample number out of them. A stock loader has sample numbers alone:
there every epoch shows the same views.

The code that an operation generates is a few calls of functions that are compiled once and cached on disk. A stock loader
compiles these calls too, which takes seconds; `data.load.loader.Loader` runs them as they are.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.state import State

from deit_fast.config import AugmentConfig, UserError
from deit_fast.data.format.beton import open_beton
from deit_fast.data.format.index import read_index
from deit_fast.data.load import decode
from deit_fast.data.load.ffcv_repairs import read_mapped, repair_ffcv
from deit_fast.data.load.threading_layer import check_threads
from deit_fast.kernels import crop, rng
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.resample import FILTERS

_SIMPLE_CROP_PADDING = 4  # DeiT III's
_MAX_DENOMINATOR = 8


@compiled()
def _locate_mapped(ids, metadata, storage_state, locations):  # type: ignore[no-untyped-def]
    """Writes address and number of bytes of each stored image of a memory-mapped beton into locations (B, 2) int64."""
    for i in range(len(ids)):
        stored = read_mapped(metadata[rng.sample_of(ids[i])]["data_ptr"], storage_state)
        locations[i, 0], locations[i, 1] = stored.ctypes.data, stored.size


@functools.cache
def _locate_by(read: Callable[..., Any]) -> Callable[..., None]:
    """_locate_mapped with another memory manager's `read`. Compiled once for each: what Numba compiles is never given back."""
    sample_of = rng.sample_of

    @numba.njit(nogil=True)
    def locate(ids, metadata, storage_state, locations):  # type: ignore[no-untyped-def]
        for i in range(len(ids)):
            stored = read(metadata[sample_of(ids[i])]["data_ptr"], storage_state)
            locations[i, 0], locations[i, 1] = stored.ctypes.data, stored.size

    return locate


class _DecodeViews(SimpleRGBImageDecoder):
    """Decodes stored images and resamples what a plan shows of each; gives uint8 (resolution, resolution, 3), RGB.

    FFCV recognises a decoder by its class, hence the base class. Unlike FFCV's decoders it decodes with the accurate DCT,
    resamples as Pillow does, and keeps the status of each image, which `check` turns into an error.

    stored: what `decode.stored_of` says of the beton: or its path, of which that is then asked.
    num_workers: threads that may run it; 0: as many as Numba may start.
    """

    def __init__(
        self,
        stored: decode.Stored | str,
        resolution: int,
        interpolation: str = "bicubic",
        *,
        dct_scaling: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        repair_ffcv()
        if isinstance(stored, str):
            beton = open_beton(stored)
            stored = decode.stored_of(beton, read_index(beton))
        self.resolution = resolution
        self._stored = stored
        self._num_workers = num_workers or numba.config.NUMBA_NUM_THREADS
        self._filter = FILTERS[interpolation]
        self._max_denominator = _MAX_DENOMINATOR if dct_scaling else 1
        self._scratch: decode.Scratch | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scratch": None}  # made anew where code is generated

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
        check_threads()
        if self._scratch is None or self._scratch.resolution != self.resolution:
            self._scratch = decode.Scratch(self._num_workers, self._stored, self.resolution)
        scratch, stored = self._scratch, self._stored
        layout, places = scratch.layout, stored.places
        kind, max_denominator, read = self._filter, self._max_denominator, self.memory_read
        make_plans = Compiler.compile(self._make_plans())
        decode_batch = decode.decode_batch
        locate = _locate_mapped if read is read_mapped else _locate_by(read)

        def decode_views(ids, memory, metadata, storage_state):  # type: ignore[no-untyped-def]
            views, statuses, locations, plans = memory
            locate(ids, metadata, storage_state, locations)
            make_plans(ids, metadata["height"], metadata["width"], views.shape[1], plans)
            decode_batch(ids, metadata, locations, places, plans, kind, max_denominator, layout, views, statuses)
            return views[: len(ids)]

        decode_views.keep = (scratch, stored)  # type: ignore[attr-defined]  # live as long as the code that points into them
        return decode_views

    def plan_views(self, ids: np.ndarray, memory: tuple[np.ndarray, ...], metadata: np.ndarray, storage_state: Any) -> None:
        """What the code of `generate_code` does first, alone: fills locations and plans of its memory."""
        _, _, locations, plans = memory
        locate = _locate_mapped if self.memory_read is read_mapped else _locate_by(self.memory_read)
        locate(ids, metadata, storage_state, locations)
        self._make_plans()(ids, metadata["height"], metadata["width"], self.resolution, plans)

    def failures(self, statuses: np.ndarray, ids: np.ndarray, locations: np.ndarray) -> list[tuple[int, str]]:
        """(position in the batch, line that names the sample, its offset and the reason) of each image that did not decode.

        statuses (B,) int32 and locations (B, 2) int64: what the decoder left in its buffers; ids (B,) uint64."""
        found = []
        for position in np.flatnonzero(statuses).tolist():
            sample = int(rng.sample_of(ids[position]))
            field = self.metadata[sample]
            address, num_bytes = (int(number) for number in locations[position])
            stored = np.frombuffer(ctypes.string_at(address, num_bytes), np.uint8)
            why = decode.reason(int(statuses[position]), stored, int(field["mode"]), int(field["height"]), int(field["width"]))
            place = f"sample {sample} (offset {int(field['data_ptr'])}, {num_bytes} bytes)"
            found.append((position, f"{place} does not decode: {why}"))
        return found


class DecodeTrainViews(_DecodeViews):
    """Random views: a crop and a horizontal flip of each image, keyed by the seed and the view id.

    centre_ratio: with augment.crop=centre, side of the crop over the shorter side of the resized image.
    """

    def __init__(
        self,
        stored: decode.Stored | str,
        resolution: int,
        seed: int,
        augment: AugmentConfig,
        *args: Any,
        centre_ratio: float = 0.875,
        **options: Any,
    ) -> None:
        super().__init__(stored, resolution, *args, **options)
        self._seed = np.uint64(seed)
        self._augment = augment
        self._centre_ratio = centre_ratio
        self._check_resolution()

    def _check_resolution(self) -> None:
        if self._augment.crop == "simple" and self.resolution <= _SIMPLE_CROP_PADDING:
            raise UserError(f"data.resolution={self.resolution}: want above {_SIMPLE_CROP_PADDING} for augment.crop=simple")

    def _make_plans(self) -> Callable[..., None]:
        self._check_resolution()  # which may have changed; padding of more than a view would be read from outside it
        seed, scale, ratio = self._seed, self._augment.crop_scale, self._augment.crop_ratio
        padding = _SIMPLE_CROP_PADDING if self._augment.crop == "simple" else -1
        flip = float(self._augment.flip)
        if self._augment.crop == "centre":
            return self._centre_plans(seed, flip)
        plan_random_views = crop.plan_random_views

        def make_plans(ids, heights, widths, resolution, plans):  # type: ignore[no-untyped-def]
            plan_random_views(seed, ids, heights, widths, scale, ratio, padding, flip, resolution, plans)

        return make_plans

    def _centre_plans(self, seed: np.uint64, flip: float) -> Callable[..., None]:
        resized = int(self.resolution / self._centre_ratio)
        plan_flipped_centre_views = crop.plan_flipped_centre_views

        def make_plans(ids, heights, widths, resolution, plans):  # type: ignore[no-untyped-def]
            plan_flipped_centre_views(seed, ids, heights, widths, resized, flip, resolution, plans)

        return make_plans


class DecodeEvalViews(_DecodeViews):
    """The evaluation view: shorter side resized to resolution / crop_ratio (cut down to an integer), centre crop."""

    def __init__(
        self, stored: decode.Stored | str, resolution: int, crop_ratio: float = 0.875, *args: Any, **options: Any
    ) -> None:
        super().__init__(stored, resolution, *args, **options)
        self._crop_ratio = crop_ratio

    def _make_plans(self) -> Callable[..., None]:
        resized = int(self.resolution / self._crop_ratio)
        plan_centre_views = crop.plan_centre_views

        def make_plans(ids, heights, widths, resolution, plans):  # type: ignore[no-untyped-def]
            plan_centre_views(ids, heights, widths, resized, resolution, plans)

        return make_plans
