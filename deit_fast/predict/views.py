"""Makes batches of evaluation views, as an evaluation's loader shows them, from image files and from betons.

Threads read and decode files, each one image after another, by the decoders of conversion; a further thread finishes a batch
when all its views are there, or makes that of a beton, while the model is at the batch before.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.augment.cropping import eval_cropping
from deit_fast.config import AugmentConfig, DataConfig, eval_augment
from deit_fast.data.convert.decoder import PixelDecoder
from deit_fast.data.convert.pixels import BadImage
from deit_fast.data.convert.transcode import Transcoder
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.format.files import read_file
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.threading_layer import one_at_a_time
from deit_fast.data.load.views import HostViews, Recipe
from deit_fast.kernels import crop, erase, finish, mix, resample
from deit_fast.kernels.round import PRECISIONS
from deit_fast.predict.inputs import Inputs
from deit_fast.train.trained import View

_REPAIRED = "repaired"


@dataclass(frozen=True, eq=False)
class Viewed:
    """A batch of images, in order.

    names: of all of them. problems: why an image has no view, by its position. repaired: what was damaged in one that has a
    view. images: those with a view, (B, 3, resolution, resolution) float32, normalised, channels-last in memory.
    """

    names: list[str]
    images: torch.Tensor
    problems: dict[int, str] = field(default_factory=dict)
    repaired: dict[int, str] = field(default_factory=dict)


class _Maker:
    """Makes views of files in one thread; holds decoders and scratch memory."""

    def __init__(self, view: View, max_pixels: int) -> None:
        self._transcoder = Transcoder(optimize=False)
        self._decoder = PixelDecoder(self._transcoder, max_pixels)
        self._side, self._kind = view.resolution, resample.FILTERS[view.interpolation]
        self._resized = eval_cropping(view.resolution, view.crop_ratio).resized
        self._scratch: tuple[NDArray[Any], ...] = (np.empty(0, np.uint8), np.empty(0, np.int32))

    def make(self, path: str, view: NDArray[np.uint8]) -> str:
        """Fills view (side, side, 3) from a file; gives what was damaged in it, "" if nothing. Raises BadImage."""
        try:
            content = read_file(path)
        except OSError as error:
            raise BadImage(path, f"cannot be read: {error.strerror or error}") from error
        pixels, odd = self._decoder.pixels_of(content, path)
        height, width = pixels.shape[:2]
        sizes = resample.scratch_sizes(height, width, self._side)
        if any(scratch.size < size for scratch, size in zip(self._scratch, sizes, strict=True)):
            self._scratch = tuple(np.empty(size, scratch.dtype) for size, scratch in zip(sizes, self._scratch, strict=True))
        plan = crop.resized_centre_crop(height, width, self._resized, self._side)
        resample.resample(pixels, *crop.axes(plan, 0, 0, 1), self._kind, False, *self._scratch, view)
        return odd.reason if odd is not None and odd.what == _REPAIRED else ""

    def close(self) -> None:
        self._decoder.close()
        self._transcoder.close()


class ViewMaker:
    """Makes batches of views; used in a `with` block, at whose end no thread is left.

    batch_size: images in a batch. num_threads: threads that decode. batches_ahead: that are made while one is used. max_pixels:
    of the largest image of a file.
    """

    def __init__(self, view: View, *, batch_size: int, num_threads: int, batches_ahead: int, max_pixels: int) -> None:
        self._view, self._batch_size, self._num_threads, self._ahead = view, batch_size, num_threads, batches_ahead
        self._mean, self._std = np.array(view.mean), np.array(view.std)
        self._all_makers = [_Maker(view, max_pixels) for _ in range(num_threads)]
        self._makers: queue.SimpleQueue[_Maker] = queue.SimpleQueue()  # those that no thread uses
        for maker in self._all_makers:
            self._makers.put(maker)
        self._threads = ThreadPoolExecutor(num_threads, "deit_fast-decode")
        self._finisher = ThreadPoolExecutor(1, "deit_fast-finish")

    def __enter__(self) -> ViewMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._finisher.shutdown(cancel_futures=True)
        for maker in self._all_makers:
            maker.close()

    def batches(self, inputs: Inputs) -> Iterator[Viewed]:
        """Batches of all images in order. Raises what a thread raised."""
        waiting: deque[Future[Viewed]] = deque()
        for group in inputs.groups:
            for finish_batch in self._of_files(group) if isinstance(group, list) else self._of_beton(group):
                waiting.append(self._finisher.submit(finish_batch))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _of_files(self, paths: list[str]) -> Iterator[Callable[[], Viewed]]:
        """Of each batch, whose decoding begins when it is asked for, the function that waits for its end."""
        for start in range(0, len(paths), self._batch_size):
            names = paths[start : start + self._batch_size]
            views = self._new_views(len(names))
            made = [self._threads.submit(self._make, name, view) for name, view in zip(names, views, strict=True)]
            yield lambda names=names, views=views, made=made: self._finish_files(names, views, made)  # type: ignore[misc]

    def _make(self, path: str, view: NDArray[np.uint8]) -> str | BadImage:
        maker = self._makers.get()
        try:
            return maker.make(path, view)
        except BadImage as bad:
            return bad
        finally:
            self._makers.put(maker)

    def _finish_files(self, names: list[str], views: NDArray[np.uint8], made: list[Future[str | BadImage]]) -> Viewed:
        results = [future.result() for future in made]
        problems = {place: result.reason for place, result in enumerate(results) if isinstance(result, BadImage)}
        repaired = {place: result for place, result in enumerate(results) if result and isinstance(result, str)}
        return Viewed(names, self._normalised(views, problems), problems, repaired)

    def _of_beton(self, beton: BetonSet) -> Iterator[Callable[[], Viewed]]:
        """As `_of_files`, of a beton's images, whose views are made by the function."""
        views = _BetonViews(beton, self._view, self._batch_size, self._num_threads)
        for start in range(0, beton.num_samples, self._batch_size):
            samples = range(start, min(start + self._batch_size, beton.num_samples))
            yield lambda samples=samples: self._finish_beton(views, samples)  # type: ignore[misc]

    def _finish_beton(self, of_beton: _BetonViews, samples: range) -> Viewed:
        views = self._new_views(len(samples))
        problems = of_beton.decode(samples, views)
        return Viewed([of_beton.name(sample) for sample in samples], self._normalised(views, problems), problems)

    def _new_views(self, count: int) -> NDArray[np.uint8]:
        return np.empty((count, self._view.resolution, self._view.resolution, 3), np.uint8)

    def _normalised(self, views: NDArray[np.uint8], problems: dict[int, str]) -> torch.Tensor:
        """Images (B, 3, side, side) of the views (n, side, side, 3), but for those that have a problem."""
        if problems:
            views = views[[place for place in range(len(views)) if place not in problems]]
        count = len(views)
        images = np.empty(views.shape, np.float32)
        if not count:
            return torch.from_numpy(images).permute(0, 3, 1, 2)
        ids, unerased = np.zeros(count, np.uint64), np.zeros((count, 4), np.int64)
        how = (self._mean, self._std, PRECISIONS["float32"], self._num_threads)
        with one_at_a_time():
            finish.finish_views(views, ids, np.uint64(0), mix.unmixed(count), unerased, erase.MODES["const"], *how, images)
        return torch.from_numpy(images).permute(0, 3, 1, 2)


class _BetonViews:
    """The evaluation views of a beton's images, by the steps of its loader that come before the normalisation."""

    def __init__(self, beton: BetonSet, view: View, batch_size: int, num_threads: int) -> None:
        self._beton = beton
        data, augment = view.shown_by(DataConfig(dtype="uint8"), AugmentConfig())
        recipe = Recipe(data, eval_augment(augment, "cpu"), beton.num_classes, None)
        how = {"batch_size": batch_size, "num_workers": num_threads}
        self._steps = HostViews(images_of(beton), recipe, view.resolution, **how, replace=_replace_none)

    def name(self, sample: int) -> str:
        """The sample as results name it."""
        return f"{self._beton.name}:{sample}"

    def decode(self, samples: range, views: NDArray[np.uint8]) -> dict[int, str]:
        """Fills views (B, side, side, 3); gives why an image does not decode, by its position."""
        work = self._steps.begin(np.arange(samples.start, samples.stop, dtype=np.uint64))
        work.views = views
        with one_at_a_time():
            self._steps.locate(work)
            self._steps.plan(work)
            self._steps.decode(work)
        return dict(self._steps.failures(work))


def _replace_none(ids: NDArray[np.uint64], failures: list[tuple[int, str]], num_tries: int) -> None:
    raise AssertionError("predict names images that do not decode, and asks for no others")
