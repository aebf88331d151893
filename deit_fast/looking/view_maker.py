"""Makes views of a training set by the loader's own code: as training sees them, or with some of the steps left out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.config import AugmentConfig, DataConfig, RunConfig, UserError, eval_augment, eval_resolution
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.load.batches import Loader
from deit_fast.data.load.decode import Images, images_of
from deit_fast.data.load.loader import num_threads, train_loader
from deit_fast.data.load.views import CpuViews, Made, Recipe, Slot
from deit_fast.kernels.policy import Policy
from deit_fast.looking.pixels import as_levels
from deit_fast.output import silent

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class GivenPolicy(Recipe):
    """A recipe with a policy of its own in place of the one that the options name."""

    given: Policy | None = None

    def policy(self) -> Policy | None:
        return self.given


def plain(augment: AugmentConfig) -> AugmentConfig:
    """Crop, flip and normalisation of an augmentation, and nothing else."""
    return replace(
        augment, auto_augment="", color_jitter=0.0, erase=0.0, mixup=None, cutmix=None, cutmix_minmax=None, mix_probability=0.0
    )


class ViewMaker:
    """Makes views of the images of data.train, on the CPU. order: that of training on one rank. data, augment: training's."""

    def __init__(self, data: DataConfig, augment: AugmentConfig, seed: int) -> None:
        self.data, self.seed = replace(data, decode="cpu"), seed
        self.augment = replace(augment, device="cpu")
        self._loader = self._of_training()
        num_samples = len(self._loader.order.samples)  # type: ignore[union-attr]
        if num_samples < data.batch_size:  # of a small set the batch is all of it
            self.data = replace(self.data, batch_size=num_samples)
            self._loader = self._of_training()
        self.order = self._loader.order
        self.beton: BetonSet = self._loader.beton
        self._images: Images = images_of(self.beton)

    def _of_training(self) -> Loader:
        return train_loader(self.data, self.augment, seed=self.seed, rank=0, world_size=1, device=_CPU)

    def batch(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint64]]:
        """A batch of training: grey levels (B, H, W, 3), soft targets (B, C), and ids (B,) of the views that it shows."""
        made = self._loader.make_batch(ids)
        return self._levels(made), np.array(made.targets), made.ids

    def views(self, ids: NDArray[np.uint64], augment: AugmentConfig, policy: Policy | None = None) -> NDArray[np.uint8]:
        """Grey levels (B, H, W, 3) of training views that are not mixed, with another augmentation or a policy of their own."""
        unmixed = replace(augment, mix_probability=0.0)
        recipe = Recipe(self.data, unmixed, self.beton.num_classes, self.seed)
        if policy is not None:
            recipe = GivenPolicy(self.data, unmixed, self.beton.num_classes, self.seed, policy)
        return self._made(recipe, ids, self.data.resolution)

    def eval_views(self, ids: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Grey levels (B, H, W, 3) of these images as evaluation sees them."""
        recipe = Recipe(self.data, eval_augment(self.augment, "cpu"), self.beton.num_classes, None)
        return self._made(recipe, ids, eval_resolution(self.data))

    def _made(self, recipe: Recipe, ids: NDArray[np.uint64], resolution: int) -> NDArray[np.uint8]:
        return self._levels(make_views(self._images, recipe, ids, resolution))

    def _levels(self, made: Made) -> NDArray[np.uint8]:
        is_bfloat16 = self.data.dtype == "bfloat16"
        levels = as_levels(np.asarray(made.images), self.augment.mean, self.augment.std, is_bfloat16=is_bfloat16)
        return levels.copy()  # the loader uses the memory again


def make_views(images: Images, recipe: Recipe, ids: NDArray[np.uint64], resolution: int) -> Made:
    """A batch of view ids (B,) in new memory. Raises UserError for an image that does not decode."""
    how = {"batch_size": len(ids), "num_workers": num_threads(recipe.data, 1)}
    views = CpuViews(images, recipe, resolution, **how, replace=_refuse)
    memory = (np.empty((len(ids), *shape), dtype) for shape, dtype in recipe.slots(resolution))
    return views.make(ids, Slot(*memory))


def _refuse(ids: NDArray[np.uint64], failures: list[tuple[int, str]], num_tries: int) -> None:
    raise UserError(f"{failures[0][1]}; want images that decode: `deit-fast verify` names all that do not")


@contextmanager
def view_maker(config: RunConfig, num_images: int) -> Iterator[ViewMaker]:
    """A `ViewMaker` of data.train, or of source.path.

    Of a source it converts a batch of images, at least num_images, in proportion from each class, into a temporary beton.
    """
    if not config.data.train and not config.source.path:
        raise UserError("data.train is not set: want a beton there, or images as source.path")
    if config.data.train:
        yield ViewMaker(config.data, config.augment, config.view_seed)
        return
    with tempfile.TemporaryDirectory(prefix="deit_fast-views-") as folder:
        beton, source = Path(folder) / "views.beton", config.source
        with closing(open_source(source)) as opened:
            count = min(opened.num_samples, max(num_images, config.data.batch_size))
        if source.subset is None or source.subset > count:
            source = replace(source, subset=count)
        with silent():
            write_beton(source, replace(config.write, out=str(beton), num_workers=config.data.num_workers))
        yield ViewMaker(replace(config.data, train=str(beton)), config.augment, config.view_seed)
