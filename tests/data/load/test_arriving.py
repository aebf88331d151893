"""Training from addresses: the views of local files, begun while later files are still being copied."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data.fetch import copy
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.loader import Loader, eval_loader, train_loader
from tests.data.fetch.web_server import Server, serving
from tests.data.image_folders import convert, make_images
from tests.data.load.test_several_betons import shown

NAMES = ("a.beton", "b.beton", "c.beton")
NUM_IMAGES = 36  # in each: three batches

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("www")
    for number, name in enumerate(NAMES):
        make_images(folder / str(number), {"cat": NUM_IMAGES // 2, "dog": NUM_IMAGES // 2}, 120 + number, 160)
        convert(folder / str(number), folder / name, mode="raw")
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


def loader(text: str, cache: Path, order: Literal["random", "pages"] = "pages", rank: int = 0, world_size: int = 1) -> Loader:
    """window: of about 6 images, so that a batch needs the file that it begins with, or also the next."""
    sizes = {"resolution": 32, "batch_size": 12 // world_size, "window_gb": 0.0004}
    data = DataConfig(train=text, cache_dir=str(cache), order=order, num_workers=1, **sizes)  # type: ignore[arg-type]
    device = torch.device("cpu")
    return train_loader(data, AugmentConfig(repeats=1), seed=3, rank=rank, world_size=world_size, device=device)


def addresses(server: Server) -> str:
    return ",".join(f"{server.address}/{name}" for name in NAMES)


@pytest.mark.parametrize("order", ["random", "pages"])
def test_views_are_those_of_local_files(
    server: Server, folder: Path, tmp_path: Path, order: Literal["random", "pages"]
) -> None:
    local = loader(",".join(str(folder / name) for name in NAMES), tmp_path, order)
    remote = loader(addresses(server), tmp_path, order)
    for epoch in (0, 1) if order == "random" else (1, 2):  # by pages the first epoch shows one file after the other
        local.set_epoch(epoch)
        remote.set_epoch(epoch)
        assert shown(local) == shown(remote)


def test_by_pages_training_begins_with_what_is_there(server: Server, tmp_path: Path) -> None:
    server.held = {"b.beton": threading.Event(), "c.beton": threading.Event()}
    training = loader(addresses(server), tmp_path)
    training.set_epoch(0)
    batches = iter(training)
    first = list(islice(batches, 2))
    assert max(batch.samples.max() for batch in first) < NUM_IMAGES
    assert server.sent["c.beton"] < 100_000  # tables alone
    for event in server.held.values():
        event.set()
    samples = [batch.samples for batch in (*first, *batches)]
    assert sorted(np.concatenate(samples).tolist()) == list(range(3 * NUM_IMAGES))
    assert max(of_batch.max() for of_batch in samples[:5]) < 2 * NUM_IMAGES  # c.beton comes last
    sizes = [(server.folder / name).stat().st_size for name in NAMES]
    assert [server.sent[name] for name in NAMES] == sizes  # no byte twice


def test_with_all_files_there_the_order_is_the_same(server: Server, tmp_path: Path) -> None:
    arriving = loader(addresses(server), tmp_path)
    first = shown(arriving)
    assert shown(loader(addresses(server), tmp_path)) == first
    arriving.set_epoch(0, 3)
    assert shown(arriving) == first[3:]
    of_ranks = [loader(addresses(server), tmp_path, rank=rank, world_size=2) for rank in range(2)]
    together = [np.concatenate([batch.samples for batch in batches]) for batches in zip(*of_ranks, strict=True)]
    assert [samples.tolist() for samples in together] == [batch.samples.tolist() for batch in arriving_from_start(arriving)]


def arriving_from_start(training: Loader) -> Loader:
    training.set_epoch(0)
    return training


def test_in_random_order_all_files_are_copied_first(server: Server, tmp_path: Path) -> None:
    loader(addresses(server), tmp_path, "random")
    assert [server.sent[name] for name in NAMES] == [(server.folder / name).stat().st_size for name in NAMES]


def test_a_server_without_ranges_sends_all_first(server: Server, tmp_path: Path) -> None:
    server.has_ranges = False
    assert len(shown(loader(addresses(server), tmp_path))) == 9
    assert [server.sent[name] for name in NAMES] == [(server.folder / name).stat().st_size for name in NAMES]


def test_a_file_that_is_damaged_ends_training_where_it_is_needed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "_FIRST_WAIT_SECONDS", 0.001)
    (tmp_path / "www").mkdir()
    for name in NAMES:
        for file in (name, f"{name}.json"):
            (tmp_path / "www" / file).write_bytes((folder / file).read_bytes())
    damaged = tmp_path / "www" / "b.beton"
    content = bytearray(damaged.read_bytes())
    content[int(open_beton(damaged).offsets[3]) + 7] ^= 1
    damaged.write_bytes(content)
    with serving(tmp_path / "www") as server:
        training = loader(addresses(server), tmp_path)
        batches = iter(training)
        assert len(list(islice(batches, 2))) == 2
        with pytest.raises(UserError, match=r"b\.beton: samples 0 to 35 are not what was written"):
            list(batches)


def test_a_loop_that_is_left_does_not_wait_for_files(server: Server, tmp_path: Path) -> None:
    server.held = {"b.beton": threading.Event()}
    training = loader(addresses(server), tmp_path)
    for _ in islice(training, 2):
        pass
    training.close()
    assert not server.held["b.beton"].is_set()


def test_a_pickled_loader_goes_on_elsewhere(server: Server, tmp_path: Path) -> None:
    training = loader(addresses(server), tmp_path)
    training.set_epoch(1, 2)
    again = pickle.loads(pickle.dumps(training))
    assert shown(again) == shown(training)


def test_evaluation_and_weights(server: Server, folder: Path, tmp_path: Path) -> None:
    def evaluation(text: str) -> Loader:
        data = DataConfig(val=text, cache_dir=str(tmp_path), resolution=32, eval_batch_size=20, num_workers=1)
        return eval_loader(data, AugmentConfig(), rank=0, world_size=1, device=torch.device("cpu"))

    assert shown(evaluation(addresses(server))) == shown(evaluation(",".join(str(folder / name) for name in NAMES)))
    twice = loader(f"{folder / 'a.beton'},{server.address}/b.beton*2", tmp_path, "random")
    assert twice.beton.num_samples == 3 * NUM_IMAGES
    assert shown(twice) == shown(loader(f"{folder / 'a.beton'},{folder / 'b.beton'}*2", tmp_path, "random"))


def test_a_rank_begins_while_another_copies(server: Server, tmp_path: Path) -> None:
    server.held = {name: threading.Event() for name in NAMES[1:]}
    first = []
    for rank in range(2):  # the threads of rank 0 wait for the server, and hold the locks of the other files
        first.append(next(iter(loader(addresses(server), tmp_path, rank=rank, world_size=2))))
    assert all(batch.samples.max() < NUM_IMAGES for batch in first)
