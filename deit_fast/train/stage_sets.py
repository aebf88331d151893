"""The training sets of a run on one rank: data.train, and the betons that stages of schedule.stages name in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from deit_fast.config import RunConfig, UserError, betons_of_stages
from deit_fast.data.fetch.addresses import has_address
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.format.identity import identity
from deit_fast.data.load.loader import Loader, ShownSet, open_train_set
from deit_fast.data.load.same_images import check_same_images
from deit_fast.train import schedule
from deit_fast.train.checkpoint import OF_STAGE
from deit_fast.train.dist import World


class StageSets:
    """Has a loader of data.train show the set of each stage; all are opened and checked at the start.

    stretches: of the loader. `of_stages`: the other sets, by what names them. Raises UserError for betons that cannot be used,
    and if they do not hold the images of data.train.
    """

    def __init__(self, config: RunConfig, loader: Loader, world: World, stretches: list[list[range]] | None = None) -> None:
        self._config, self._loader, self._world, self._stretches = config, loader, world, stretches
        self._sets = {config.data.train: loader.shown}
        self._first_epoch: int | None = None  # of this process
        for number, text in enumerate(betons_of_stages(config), start=1):
            if text not in self._sets:
                try:
                    self._sets[text] = self._open(text)
                    check_same_images(loader.shown, self._sets[text])
                except UserError as error:
                    raise UserError(f"schedule.stages: stage {number}: {error}") from None

    @property
    def of_stages(self) -> dict[str, BetonSet]:
        return {text: shown.images.beton for text, shown in self._sets.items() if text != self._config.data.train}

    def show(self, stage: schedule.Stage) -> None:
        """The loader's next iteration shows the set of a stage; one that was let go is opened again."""
        if stage.betons not in self._sets:
            self._sets[stage.betons] = self._open(stage.betons)
        self._loader.show(self._sets[stage.betons])

    def begin_epoch(self, epoch: int) -> None:
        """Lets go of the sets that no epoch from this one on shows. From its second epoch on a process also copies what is
        missing of the others, so that no later stage has to wait for all of it."""
        config = self._config
        now = schedule.stage_of_epoch(config, epoch)  # teach.epochs may be more than train.epochs
        needed = {stage.betons for stage in (now, *schedule.stages_of(config)[epoch:])}
        self._sets = {text: shown for text, shown in self._sets.items() if text in needed}
        if self._first_epoch is None:
            self._first_epoch = epoch
        if epoch > self._first_epoch:
            for shown in self._sets.values():
                if shown.arrivals is not None:
                    shown.arrivals.begin()

    def _open(self, text: str) -> ShownSet:
        return open_train_set(
            dataclasses.replace(self._config.data, train=text),
            self._config.augment,
            seed=self._config.view_seed,
            rank=self._world.rank,
            world_size=self._world.world_size,
            device=self._world.device,
            stretches=self._stretches,
        )


def train_set_digests(config: RunConfig, betons: BetonSet, of_stages: Mapping[str, BetonSet]) -> dict[str, str]:
    """Digests of what decides on the views of a run, by what they are of.

    of_stages: as of `StageSets`. Of a stage, as `images of stage 1`, there are those that differ from data.train's. `order` is
    of the first epoch: with data.order=pages, a set that is still being copied then has an order of its own.
    """
    in_pages = config.data.order == "pages"
    own = identity(betons, with_places=in_pages)
    others = {text: identity(other, with_places=in_pages) for text, other in of_stages.items()}
    digests = dict(own)
    if in_pages:
        is_copied = has_address(schedule.stage_of_epoch(config, 0).betons)
        digests["order"] = "files one by one in the first epoch" if is_copied else "all files"
    for number, text in enumerate(betons_of_stages(config), start=1):
        for what, digest in others.get(text, own).items():
            if digest != own[what]:
                digests[f"{what}{OF_STAGE}{number}"] = digest
    return digests
