"""Sets of stages whose betons are on another machine: copied while earlier stages show others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.config import AugmentConfig, RunConfig, UserError
from deit_fast.data.load.loader import train_loader
from deit_fast.train import schedule, stage_sets
from deit_fast.train.checkpoint import check_same_run
from deit_fast.train.dist import World
from deit_fast.train.stage_sets import StageSets, train_set_digests
from tests.data.fetch.web_server import Server, serving
from tests.data.image_folders import convert, make_images
from tests.data.load.test_several_betons import shown
from tests.tiny_runs import with_options

NAMES = ("a.beton", "b.beton")
ONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two betons of raw pixels, and the same images at a quarter of the side in small/."""
    folder = tmp_path_factory.mktemp("www")
    (folder / "small").mkdir()
    for number, name in enumerate(NAMES):
        images = make_images(folder / str(number), {"cat": 18, "dog": 18}, 120 + number, 160)
        convert(images, folder / name, mode="raw")
        convert(images, folder / "small" / name, max_resolution=40)
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


def _config(train: str, stages: str, cache: Path, order: str = "pages") -> RunConfig:
    return with_options({
        "data.train": train, "data.cache_dir": str(cache), "data.order": order, "data.window_gb": 0.0004, "data.num_workers": 1,
        "data.batch_size": 12, "data.resolution": 32, "augment.repeats": 1, "train.epochs": 3,
        "schedule.stages": ({"epochs": 2, "data.train": stages}, {"epochs": 1}),
    })  # fmt: skip


def _all(places: str | Path, prefix: str = "") -> str:
    return ",".join(f"{places}/{prefix}{name}" for name in NAMES)


@pytest.mark.timeout(120)
def test_later_stages_are_copied_from_the_second_epoch_on(server: Server, folder: Path, tmp_path: Path) -> None:
    server.held = {"b.beton": threading.Event()}
    config = _config(_all(server.address), _all(folder / "small"), tmp_path)
    loader = train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=ONE.device)
    sets = StageSets(config, loader, ONE)
    local = config.changed({"data.train": _all(folder)})
    wanted = train_loader(local.data, AugmentConfig(repeats=1), seed=0, rank=0, world_size=1, device=ONE.device)
    for epoch in range(3):
        sets.begin_epoch(epoch)
        sets.show(schedule.stage_of_epoch(config, epoch))
        loader.set_epoch(epoch)
        views = shown(loader)
        assert len(views) == 6
        if epoch == 0:
            assert server.sent["b.beton"] < 100_000  # tables alone
            server.held["b.beton"].set()
        elif epoch == 1:
            deadline = time.monotonic() + 60
            while server.sent["b.beton"] < (folder / "b.beton").stat().st_size and time.monotonic() < deadline:
                time.sleep(0.02)
            assert server.sent["b.beton"] == (folder / "b.beton").stat().st_size
    wanted.set_epoch(2)
    assert views == shown(wanted)
    loader.close()


def test_epochs_beyond_the_run_show_what_is_open(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where teach.epochs is more than train.epochs."""
    config = _config(_all(folder), "", tmp_path).changed({"schedule.stages": ()})
    loader = train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=ONE.device)
    sets = StageSets(config, loader, ONE)
    monkeypatch.setattr(stage_sets, "open_train_set", None)
    for epoch in range(config.train.epochs + 2):
        sets.begin_epoch(epoch)
        sets.show(schedule.stage_of_epoch(config, epoch))
    loader.close()


@pytest.mark.parametrize("of_stages", ["small", "address"])
def test_the_order_is_that_of_the_first_epoch(server: Server, folder: Path, tmp_path: Path, of_stages: str) -> None:
    """Wherever the set of later epochs is: files are shown one by one while they are copied, in the first epoch alone."""
    places = {"small": _all(folder / "small"), "address": _all(server.address, "small/")}
    found = []
    for train in (_all(folder), _all(server.address)):
        config = _config(train, places[of_stages], tmp_path)
        loader = train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=ONE.device)
        found.append(train_set_digests(config, loader.beton, StageSets(config, loader, ONE).of_stages))
        loader.close()
    assert found[0] == found[1]
    assert set(found[0]) == {"labels", "images", "images of stage 1", "order"}
    assert ("one by one" in found[0]["order"]) == (of_stages == "address")
    had: dict[str, Any] = {"global_batch_size": 12, "config": {}, "digests": {"data.train": found[0] | {"order": "another"}}}
    with pytest.raises(UserError, match=r"^schedule\.stages: stage 1: holds other order than the run of checkpoint"):
        check_same_run(had, tmp_path, config, 12, 72, {"data.train": found[0]})


def test_betons_of_stages_are_addresses_too(server: Server, folder: Path, tmp_path: Path) -> None:
    """In random order they are copied before the first step, and their digests are those of the local files."""
    found = []
    for stages, cache in ((_all(server.address, "small/"), tmp_path), (_all(folder / "small"), tmp_path / "none")):
        config = _config(_all(folder), stages, cache, "random")
        loader = train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=ONE.device)
        sets = StageSets(config, loader, ONE)
        digests = train_set_digests(config, loader.beton, sets.of_stages)
        sets.show(schedule.stage_of_epoch(config, 0))
        found.append((shown(loader), digests))
        loader.close()
    assert found[0] == found[1]
    assert set(found[0][1]) == {"labels", "images", "images of stage 1"}
    with pytest.raises(UserError, match=r"^schedule\.stages: stage 1: \S*none\.beton"):
        config = _config(_all(folder), f"{server.address}/none.beton", tmp_path)
        StageSets(config, loader, ONE)
