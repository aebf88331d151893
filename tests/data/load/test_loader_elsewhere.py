"""Loaders and operations that are pickled or copied, and loaders in processes that were forked, spawned, or sent one."""

from __future__ import annotations

import copy
import gc
import hashlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ffcv.loader
import ffcv.transforms
import numpy as np
import pytest
import torch
from ffcv.memory_managers.os_cache import OSCacheManager
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.state import State
from ffcv.reader import Reader

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data import ffcv_ops
from deit_fast.data.convert.transcode import Transcoder
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.decode import Scratch, images_of
from deit_fast.data.load.loader import Loader, eval_loader, train_loader
from deit_fast.kernels import rng
from deit_fast.kernels.jpeg.turbojpeg import DecoderHandles, JpegDecoder
from tests.data.image_folders import convert, make_images

CPU = torch.device("cpu")
SIDE = 32
SOON_SECONDS = 300
TRAVELS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": 40, "bee": 30, "cow": 30}, height=90, width=140), out)
    return out


def train(path: str | Path) -> Loader:
    """A training loader with the whole recipe, in the middle of an epoch, at another resolution, with another augmentation."""
    config = DataConfig(train=str(path), batch_size=16, resolution=48, num_workers=2)
    loader = train_loader(config, AugmentConfig(), seed=5, rank=1, world_size=2, device=CPU)
    loader.set_epoch(3, first_step=1)
    loader.set_resolution(SIDE)
    loader.set_augment(AugmentConfig(auto_augment="3a", erase=0.5))
    return loader


def evaluate(path: str | Path) -> Loader:
    """An evaluation loader."""
    config = DataConfig(val=str(path), eval_batch_size=16, resolution=SIDE, num_workers=2)
    return eval_loader(config, AugmentConfig(), rank=0, world_size=1, device=CPU)


def shown(loader: Loader) -> str:
    """A digest of all that an iteration shows."""
    digest = hashlib.sha256()
    for batch in loader:
        for tensor in (batch.images, batch.targets, batch.samples, batch.views):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("travel", TRAVELS)
@pytest.mark.parametrize("make", [train, evaluate])
def test_a_loader_is_made_anew_for_the_same_steps(
    beton: Path, travel: str, make: Callable[[Path], Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beton.parent)
    loader = make(Path(beton.name))
    want = shown(loader)
    iteration = iter(loader)
    next(iteration)  # one that runs does not matter
    monkeypatch.chdir("/")
    if travel == "pickle":
        content = pickle.dumps(loader)
        del iteration, loader
        gc.collect()
        arrived: Loader = pickle.loads(content)
    else:
        arrived = TRAVELS[travel](loader)
        assert shown(loader) == want
    assert shown(arrived) == want
    arrived.set_epoch(4)
    assert shown(arrived) != want or make is evaluate


def _operations(beton: Path) -> tuple[list[Any], list[Any]]:
    augment = AugmentConfig(color_jitter=0.2)
    images = [
        ffcv_ops.DecodeTrainViews(str(beton), SIDE, 3, augment),
        ffcv_ops.AugmentViews(augment, 3),
        ffcv_ops.Finish(augment, 3),
    ]
    return images, [ffcv_ops.Label(), ffcv_ops.SoftTargets(3, SIDE, augment, 3)]


def _results(beton: Path, operations: tuple[list[Any], list[Any]]) -> list[bytes]:
    """What the code of the operations makes of 20 views, where FFCV's own compilation is off."""
    opened, ids = open_beton(beton), rng.pack_view_ids(1, np.arange(20), np.arange(20) % 3)
    manager = OSCacheManager(Reader(str(beton)))
    context = manager.schedule_epoch(np.zeros((1, 1), np.uint64))
    results = []
    with context as entered:
        for field, of_field in zip(("f0", "f1"), operations, strict=True):
            state = State(jit_mode=True, device=torch.device("cpu"), shape=(), dtype=np.dtype("<u1"))
            metadata, result = manager.reader.metadata[field], None
            for number, operation in enumerate(of_field):
                operation.accept_globals(metadata, manager.compile_reader())
                state, query = operation.declare_state_and_memory(state)
                queries = query if isinstance(query, tuple) else [query] if query is not None else []
                memory = [np.empty((20, *part.shape), part.dtype) for part in queries]
                given = tuple(memory) if isinstance(query, tuple) else memory[0] if memory else None
                Compiler.set_enabled(False)
                code = operation.generate_code()
                Compiler.set_enabled(True)
                if number == 0:
                    result = code(ids, given, metadata, entered.state)
                else:
                    result = code(result, given, *((ids,) if getattr(code, "with_indices", False) else ()))
            assert result is not None
            results.append(result.tobytes())
    assert opened.num_samples >= 20
    return results


@pytest.mark.parametrize("travel", TRAVELS)
@pytest.mark.slow
def test_operations_travel_before_and_after_their_use(beton: Path, travel: str) -> None:
    operations = _operations(beton)
    before = [[TRAVELS[travel](operation) for operation in of_field] for of_field in operations]
    want = _results(beton, operations)
    after = [[TRAVELS[travel](operation) for operation in of_field] for of_field in operations]
    del operations
    gc.collect()  # frees what the originals pointed to
    assert _results(beton, (before[0], before[1])) == want
    assert _results(beton, (after[0], after[1])) == want


@pytest.mark.parametrize("travel", TRAVELS)
def test_what_points_into_memory_stays(beton: Path, travel: str) -> None:
    opened = open_beton(beton)
    images = images_of(opened)
    pointing = [DecoderHandles(1), JpegDecoder(), Scratch(1, images.largest, SIDE)]
    for one in (*pointing, Transcoder(optimize=False)):
        if travel == "copy" and isinstance(one, JpegDecoder):
            continue  # a shallow copy has the same handles, which are freed with the last that has them
        with pytest.raises(TypeError, match="holds addresses in the memory of this process"):
            TRAVELS[travel](one)
    arrived = TRAVELS[travel](images)
    assert arrived.largest == images.largest
    assert arrived.memories[0].ctypes.data != images.memories[0].ctypes.data
    assert arrived.rows is not None
    assert images.rows is not None
    assert np.array_equal(arrived.rows, images.rows)
    assert np.array_equal(arrived.memories[0], images.memories[0])
    of_beton = TRAVELS[travel](opened)
    assert (of_beton.path, of_beton.classes) == (opened.path, opened.classes)
    assert np.array_equal(of_beton.labels, opened.labels)


def test_a_stock_loader_with_our_operations_is_copied_or_refused(beton: Path) -> None:
    """Both copies freed TurboJPEG's decoders, which ended the process."""
    images, labels = _operations(beton)
    pipelines = {"image": [*images, ffcv.transforms.ToTensor()], "label": [*labels, ffcv.transforms.ToTensor()]}
    stock = ffcv.loader.Loader(str(beton), batch_size=10, num_workers=1, pipelines=pipelines)
    pointers = images[0]._scratch._handles.pointers.copy()
    copied = copy.deepcopy(stock)
    assert copied is not stock
    del copied
    gc.collect()
    assert images[0]._scratch._handles.pointers.tolist() == pointers.tolist()
    assert all(pointers)
    with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
        pickle.dumps(stock)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_loader_is_sent_to_a_process(beton: Path, method: str) -> None:
    loaders = train(beton), evaluate(beton)
    want = [shown(loader) for loader in loaders]
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map_async(shown, loaders).get(SOON_SECONDS) == want


# parts of a program: each child says what its loader showed, or the line of the error
FORKING = """
import multiprocessing, sys
import deit_fast.data  # before FFCV, which this test's module imports too
from tests.data.load.test_loader_elsewhere import evaluate, shown, train
from deit_fast.config import UserError
context = multiprocessing.get_context("fork")
def in_child(loader):
    try:
        print(shown(loader or train(sys.argv[1])), flush=True)
    except UserError as error:
        print("refused:", error, flush=True)
def fork(loader=None):
    child = context.Process(target=in_child, args=(loader,))
    child.start()
    child.join(120)
    print("status", child.exitcode, flush=True)
"""


def _forked(beton: Path, code: str, **variables: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_THREADING_LAYER")}
    command = [sys.executable, "-c", FORKING + code, str(beton)]
    done = subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, timeout=SOON_SECONDS, check=False)
    assert "Terminating" not in done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_forks_before_and_after_the_parent_uses_a_loader(beton: Path) -> None:
    want = shown(train(beton))
    code = (
        "loader = train(sys.argv[1])\nfork()\nfork(loader)\n"
        "running = iter(loader); next(running)\nfork()\nfork(loader)\n"
        "print(shown(loader))"
    )
    before, status, sent, sent_status, *refused, in_parent = _forked(beton, code)
    assert (before, status, sent, sent_status, in_parent) == (want, "status 0", want, "status 0", want)
    assert len(refused) == 4
    for line, its_status in (refused[:2], refused[2:]):
        assert line.startswith("refused: this process was forked from one in which OpenMP's threads ran already")
        assert "get_context('spawn')" in line
        assert its_status == "status 0"


@pytest.mark.slow
def test_another_threading_layer_survives_a_fork(beton: Path) -> None:
    code = "loader = train(sys.argv[1])\nprint(shown(loader))\nfork()\nfork(loader)"
    want = shown(train(beton))
    assert _forked(beton, code, NUMBA_THREADING_LAYER="workqueue") == [want, want, "status 0", want, "status 0"]
