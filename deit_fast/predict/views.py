"""Makes batches of evaluation views, as an evaluation's loader shows them, from image files and from betons.

Threads read and decode files, each some of a batch; a further thread finishes a batch when all its views are there, or makes
that of a beton, while the model classifies the batch before.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.config import AugmentConfig, DataConfig, eval_augment
from deit_fast.data.convert.pixels import BadImage
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.slots import Slots
from deit_fast.data.load.threading_layer import one_at_a_time
from deit_fast.data.load.views import HostViews, Recipe
from deit_fast.kernels import erase, finish, mix
from deit_fast.kernels.round import PRECISIONS
from deit_fast.predict.file_views import FileViews
from deit_fast.predict.inputs import Inputs
from deit_fast.train.trained import View

_FILES_OF_A_TASK = 16  # two are decoded at once, but for the last one of a task


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """A batch of images, in order.

    names: of all of them. problems: why an image has no view, by its position. repaired: what was damaged in one that has a
    view. images: those with a view, (B, 3, resolution, resolution) float32, normalised, channels-last in memory, which is used
    again once nobody holds them.
    """

    names: list[str]
    images: torch.Tensor
    problems: dict[int, str] = field(default_factory=dict)
    repaired: dict[int, str] = field(default_factory=dict)


class ViewMaker:
    """Makes batches of views; used in a `with` block, at whose end no thread is left.

    batch_size: images in a batch. num_threads: threads that decode. batches_ahead: those made while one is used.
    max_pixels: of the largest image in a file.
    """

    def __init__(self, view: View, *, batch_size: int, num_threads: int, batches_ahead: int, max_pixels: int) -> None:
        self._view, self._batch_size, self._num_threads, self._ahead = view, batch_size, num_threads, batches_ahead
        self._mean, self._std = np.array(view.mean), np.array(view.std)
        # new memory costs page faults, a fifth of the time of a batch
        shape, num_slots = (batch_size, view.resolution, view.resolution, 3), batches_ahead + 2
        self._view_slots = Slots(shape, np.dtype(np.uint8), num_slots, pinned=False)
        self._image_slots = Slots(shape, np.dtype(np.float32), num_slots, pinned=False)
        self._all_makers = [FileViews(view, max_pixels) for _ in range(num_threads)]
        self._makers: queue.SimpleQueue[FileViews] = queue.SimpleQueue()  # those that no thread uses
        for maker in self._all_makers:
            self._makers.put(maker)
        self._threads = ThreadPoolExecutor(num_threads, "deit_fast-decode")
        self._finisher = ThreadPoolExecutor(1, "deit_fast-finish", numba.set_num_threads, (num_threads,))

    def __enter__(self) -> ViewMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._finisher.shutdown(cancel_futures=True)
        for maker in self._all_makers:
            maker.close()

    def batches(self, inputs: Inputs) -> Iterator[ViewBatch]:
        """Batches of all images in order. Raises what a thread raised."""
        waiting: deque[Future[ViewBatch]] = deque()
        for group in inputs.groups:
            for finish_batch in self._of_files(group) if isinstance(group, list) else self._of_beton(group):
                waiting.append(self._finisher.submit(finish_batch))
                if len(waiting) > self._ahead:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _of_files(self, paths: list[str]) -> Iterator[Callable[[], ViewBatch]]:
        """Starts the decoding of each batch when asked for it; gives a function that waits for its end and finishes it."""
        for start in range(0, len(paths), self._batch_size):
            names = paths[start : start + self._batch_size]
            views = self._new_views(len(names))
            step = min(_FILES_OF_A_TASK, -(-len(names) // self._num_threads))
            parts = (slice(first, first + step) for first in range(0, len(names), step))
            made = [self._threads.submit(self._make, names[part], views[part]) for part in parts]
            yield lambda names=names, views=views, made=made: self._finish_files(names, views, made)  # type: ignore[misc]

    def _make(self, paths: list[str], views: NDArray[np.uint8]) -> list[str | BadImage]:
        maker = self._makers.get()
        try:
            return maker.make(paths, views)
        finally:
            self._makers.put(maker)

    def _finish_files(self, names: list[str], views: NDArray[np.uint8], made: list[Future[list[str | BadImage]]]) -> ViewBatch:
        results = [result for future in made for result in future.result()]
        problems = {index: result.reason for index, result in enumerate(results) if isinstance(result, BadImage)}
        repaired = {index: result for index, result in enumerate(results) if result and isinstance(result, str)}
        return ViewBatch(names, self._normalised(views, problems), problems, repaired)

    def _of_beton(self, beton: BetonSet) -> Iterator[Callable[[], ViewBatch]]:
        """The same for a beton's images; the function also makes their views."""
        of_beton = _BetonViews(beton, self._view, self._batch_size, self._num_threads)
        for start in range(0, beton.num_samples, self._batch_size):
            samples = range(start, min(start + self._batch_size, beton.num_samples))
            views = self._new_views(len(samples))
            yield lambda samples=samples, views=views: self._finish_beton(of_beton, samples, views)  # type: ignore[misc]

    def _finish_beton(self, of_beton: _BetonViews, samples: range, views: NDArray[np.uint8]) -> ViewBatch:
        problems = of_beton.decode(samples, views)
        return ViewBatch([of_beton.name(sample) for sample in samples], self._normalised(views, problems), problems)

    def _new_views(self, count: int) -> NDArray[np.uint8]:
        """Memory for views (count, side, side, 3) of a batch; for the thread that asks for batches."""
        return self._view_slots.take()[:count]

    def _normalised(self, views: NDArray[np.uint8], problems: dict[int, str]) -> torch.Tensor:
        """Images (B, 3, side, side) of the views (n, side, side, 3), but for those that have a problem."""
        if problems:
            views = views[[index for index in range(len(views)) if index not in problems]]
        count = len(views)
        images = self._image_slots.take()[:count]
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
