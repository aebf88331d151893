"""The loader: batches of one epoch after another, and what stands in for images that do not decode."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.config import AugmentConfig, DataConfig, RankError, UserError, check_option, check_sections
from deit_fast.data.fetch.local import Arrivals
from deit_fast.data.load.activity import Activity, ActivityMeter
from deit_fast.data.load.batch import Batch, Place
from deit_fast.data.load.decode import Images
from deit_fast.data.load.order import EvalOrder, StretchOrder, TrainOrder
from deit_fast.data.load.producer import Producer
from deit_fast.data.load.read_ahead import ReadAhead
from deit_fast.data.load.slots import Slots
from deit_fast.data.load.threading_layer import check_threads
from deit_fast.data.load.views import NO_VIEW, CpuViews, Made, Recipe, Slot, Views
from deit_fast.kernels import rng


class Replacements:
    """What stands in for the images of a loader that do not decode, if others may. `count`: of those that were replaced.

    Not a part of the loader, since what makes its views holds this: the two would hold each other.
    """

    def __init__(
        self, order: TrainOrder | StretchOrder | EvalOrder, num_samples: int, *, on_error: str, arrivals: Arrivals | None = None
    ) -> None:
        self.count = 0
        self._order, self._num_samples, self._on_error, self._arrivals = order, num_samples, on_error, arrivals

    def put(self, ids: np.ndarray, failures: list[tuple[int, str]], num_tries: int) -> None:
        """Puts the next images of the beton in the place of those that did not decode: a `views.Replace`.

        Raises RankError where that is not asked for, or when all images were tried.
        """
        order = self._order
        if isinstance(order, EvalOrder) or self._on_error != "replace" or num_tries == self._num_samples:
            raise RankError(f"{failures[0][1]}; the beton is damaged: write it again, or set data.on_error=replace")
        for position, line in failures:
            self.count += 1
            following = order.sample_after(int(rng.sample_of(ids[position])))
            shown = set(rng.sample_of(ids).tolist())  # an image that is there already could be mixed with itself
            while following in shown and len(shown) < len(order.samples):
                following = order.sample_after(following)
            print(f"deit_fast: {line}; sample {following} stands in for it", file=sys.stderr)
            ids[position] = ids[position] - rng.sample_of(ids[position]) + np.uint64(following)
        if self._arrivals is not None:
            self._arrivals.wait(rng.sample_of(ids).astype(np.int64))


@dataclass(frozen=True, eq=False)
class ShownSet:
    """A set of images as a loader shows it: the images, the order of one rank, files that are still being copied (None: none
    are), and a function that makes a loader of it anew, in this process or another."""

    images: Images
    order: TrainOrder | StretchOrder | EvalOrder
    remake: Callable[[], Loader]
    arrivals: Arrivals | None = None


class Loader:
    """Batches of one epoch at a time on one rank. A new iteration ends the one before.

    In all epochs so far, `num_replaced` counts images that did not decode and were replaced, `num_refused` JPEGs that the
    device's decoder left to the CPU's. make_views: class of the `Views`, with its further arguments bound. A pickled or copied
    loader is rebuilt by its set's `remake`, for the same steps of the same epoch.
    """

    def __init__(
        self,
        shown: ShownSet,
        recipe: Recipe,
        *,
        batch_size: int,
        resolution: int,
        num_workers: int,
        device: torch.device,
        make_views: Callable[..., Views] = CpuViews,
        num_slots: int | None = None,
    ) -> None:
        check_threads()
        recipe.cropping(resolution)  # raises UserError where there is none
        self._make_views, self._recipe, self.device = make_views, recipe, device
        self.batch_size, self.num_workers = batch_size, num_workers
        self.batches_ahead = recipe.data.batches_ahead
        self.is_training, self.is_bfloat16 = recipe.is_training, recipe.data.dtype == "bfloat16"
        self.num_slots = num_slots or slots_of(recipe.data)
        self._take(shown)
        self._num_refused_before = 0  # by views of other resolutions
        self.meter = ActivityMeter()
        self._resolution = resolution
        self._epoch, self.first_step = 0, 0
        self._views: Views | None = None  # made, with the slots, when a batch is wanted
        self._image_slots: Slots
        self._target_slots: Slots
        self._producer: Producer | None = None

    def _take(self, shown: ShownSet) -> None:
        self.shown, self.beton, self.order = shown, shown.images.beton, shown.order
        self._replacements = Replacements(
            shown.order, self.beton.num_samples, on_error=self._recipe.data.on_error, arrivals=shown.arrivals
        )

    @property
    def num_replaced(self) -> int:
        return self._replacements.count

    @num_replaced.setter
    def num_replaced(self, count: int) -> None:
        self._replacements.count = count

    @property
    def num_refused(self) -> int:
        return self._num_refused_before + (self._views.num_refused if self._views is not None else 0)

    @property
    def activity(self) -> Activity:
        """What the loader has done in all its iterations."""
        return self.meter.total()

    @property
    def resolution(self) -> int:
        """Side of a view in pixels, from the next iteration on."""
        return self._resolution

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """The next iteration shows this epoch, from its first_step on."""
        if not 0 <= epoch < rng.MAX_EPOCHS or first_step < 0:
            raise UserError(f"epoch={epoch}, first_step={first_step}: want 0 to {rng.MAX_EPOCHS - 1}, and 0 or more")
        self._epoch, self.first_step = epoch, first_step

    def set_resolution(self, resolution: int) -> None:
        """The side of a view in pixels from the next iteration on."""
        check_option("data.resolution", resolution)
        if resolution != self._resolution:
            self._forget_views()
            self._resolution = resolution

    def set_augment(self, augment: AugmentConfig) -> None:
        """What happens to a view from the next iteration on, where the loader was made for its augment.device and repeats."""
        check_sections(augment=augment)
        now = self._recipe.augment
        assert (augment.device, augment.repeats) == (now.device, now.repeats)
        if augment != now:
            recipe = dataclasses.replace(self._recipe, augment=augment)
            recipe.cropping(self._resolution)  # raises UserError where there is none
            self._forget_views()
            self._recipe = recipe

    def show(self, shown: ShownSet) -> None:
        """Shows another set from the next iteration on, of as many classes and of steps of the same size."""
        if shown is not self.shown:
            self._forget_views()
            num_replaced = self.num_replaced
            self._take(shown)
            self.num_replaced = num_replaced

    def _forget_views(self) -> None:
        self.close()
        self._num_refused_before, self._views = self.num_refused, None

    def __len__(self) -> int:
        return max(0, self.order.steps_per_epoch - self.first_step)

    def __reduce__(self) -> tuple[object, ...]:
        return _remade, (
            self.shown.remake, self._epoch, self.first_step, self._resolution, self._recipe.augment, self.num_replaced,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self._new_memory)

    def _new_memory(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)

    def batches(self, place: Place) -> Iterator[Batch]:
        """An iteration, whose batches lie where `place` puts them instead of in new memory of the device."""
        check_threads()
        self.close()
        self.views()
        schedule = self.order.read_schedule(self._epoch, self.first_step)
        read_ahead = None
        if schedule is not None:
            read_ahead = ReadAhead(self.beton.stretches, self.shown.images.memories, schedule, steps_behind=self.num_slots)
        producer = Producer(self, list(self.order.batches(self._epoch, self.first_step)), read_ahead, place)
        self._producer = producer
        try:
            yield from producer
        finally:
            producer.close()
            if self._producer is producer:  # else loader and producer hold each other, until Python looks for cycles
                self._producer = None

    def views(self) -> Views:
        """The maker of batches and the slots for them, created at the first use.

        Raises UserError if memory is short, or if views of this resolution cannot be made.
        """
        if self._views is None:
            try:
                self._views = self._make_views(
                    self.shown.images, self._recipe, self._resolution, batch_size=self.batch_size, num_workers=self.num_workers,
                    replace=self._replacements.put,
                )  # fmt: skip
                self._views.meter = self.meter
                slots = self._recipe.slots(self._resolution)
                self._image_slots, self._target_slots = (
                    Slots((self.batch_size, *shape), dtype, self.num_slots, pinned=self.device.type == "cuda")
                    for shape, dtype in slots
                )
            except UserError:
                raise
            except (MemoryError, ValueError) as error:  # of NumPy: no memory, or more than there are addresses
                self._views = None
                num_bytes = self.batch_size * self._recipe.batch_bytes(self._resolution, self.num_slots)
                raise UserError(
                    f"{self.num_slots} batches of {self.batch_size} take {num_bytes:,} bytes, more than memory allows: want "
                    "smaller batches (data.batch_size, data.eval_batch_size), fewer (data.batches_ahead), or a smaller "
                    "data.resolution"
                ) from error
        return self._views

    def take_slot(self) -> Slot:
        """Memory for a batch, reserved until its arrays are gone."""
        self.views()
        return Slot(self._image_slots.take(), self._target_slots.take())

    @property
    def num_pieces(self) -> tuple[int, int]:
        """Number of pieces of memory for images and for targets, free or lent."""
        return self._image_slots.num_pieces, self._target_slots.num_pieces

    def close(self) -> None:
        """End the current iteration, if any, and its thread."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def wait(self, ids: NDArray[np.uint64], is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Returns when the files that hold the images of view ids are on this machine, or is_stopped says so."""
        if self.shown.arrivals is not None:
            self.shown.arrivals.wait(rng.sample_of(ids).astype(np.int64), is_stopped)

    def make_batch(self, ids: np.ndarray, left: NDArray[np.bool_] = NO_VIEW) -> Made:
        """A batch in a new slot. ids (B,) uint64; left: of `Views.make`. `judged` is still to be asked.

        Raises RankError if an image does not decode and data.on_error=fail.
        """
        slot = self.take_slot()
        self.meter.charge("device")
        made = self.views().make(ids, slot, left)
        if made.ready is not None:
            self.read_until(slot, made.ready)
        return made

    def judged(self, made: Made) -> Made:
        """The batch; or, if the device found damaged images in it, another one, in which the CPU has decoded or replaced them.

        Waits for the device, if that has not told yet. Raises the errors of `make_batch`.
        """
        left = np.zeros(len(made.ids), bool)
        while made.damaged is not None:
            damaged = made.damaged()
            self.meter.charge("device")
            if not damaged.any():
                break
            left |= damaged
            made = self.make_batch(made.ids, left)
        return made

    def read_until(self, slot: Slot, event: torch.cuda.Event) -> None:
        """A GPU copies from the memory of a batch until the event."""
        self._image_slots.read_until(slot.images, event)
        self._target_slots.read_until(slot.targets, event)

    def rest(self) -> None:
        """No batch is made for now: wait until no GPU copies from any, and keep the memory of the usual number."""
        for slots in (self._image_slots, self._target_slots):
            slots.rest()


def slots_of(config: DataConfig) -> int:
    """Batches in memory at a time: those ahead, one with the consumer, one being filled."""
    return config.batches_ahead + 2


def _remade(
    remake: Callable[[], Loader], epoch: int, first_step: int, resolution: int, augment: AugmentConfig, num_replaced: int
) -> Loader:
    """A loader like one that was pickled or copied."""
    loader = remake()
    loader.set_epoch(epoch, first_step)
    loader.set_resolution(resolution)
    loader.set_augment(augment)
    loader.num_replaced = num_replaced
    return loader
