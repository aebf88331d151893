"""What loaders call is compiled once, and then found by all."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load import compile_ahead as module
from deit_fast.data.load.file_parts import OF_FILES
from deit_fast.data.load.loader import Loader, eval_loader, train_loader
from tests.data.image_folders import convert

# prints the functions that a process compiles for its first batches, of training and of evaluation, decoded here or on a device
PROGRAM = """
import sys, torch
from numba.core import event
from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.compile_ahead import _try_out as try_out
from deit_fast.data.load.loader import eval_loader, train_loader

data = DataConfig(train=sys.argv[1], val=sys.argv[1], batch_size=4, resolution=48)
place = {"rank": 0, "world_size": 1, "device": torch.device("cpu")}
with event.install_recorder("numba:compile") as recorder:
    for loader in (train_loader(data, AugmentConfig(repeats=2), seed=1, **place), eval_loader(data, AugmentConfig(), **place)):
        next(iter(loader))
        try_out(loader, "gather")
        try_out(loader, "half")
        loader.close()
print(sorted(str(record.data["dispatcher"].py_func.__qualname__) for _, record in recorder.buffer if record.is_start))
"""


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    (folder / "only").mkdir()
    for number in range(8):
        noise = generator.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "only" / f"{number}.jpg")
    convert(folder, folder / "out.beton", num_workers=1)
    return folder / "out.beton"


def _loaders(beton: Path) -> list[Loader]:
    data = DataConfig(train=str(beton), val=str(beton), batch_size=4, resolution=48, num_workers=1)
    place = {"rank": 0, "world_size": 1, "device": torch.device("cpu")}
    return [train_loader(data, AugmentConfig(repeats=2), seed=1, **place), eval_loader(data, AugmentConfig(), **place)]  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_first_batches_find_all_compiled(beton: Path) -> None:
    module.compile_ahead(beton, tuple(module.PARTS))
    command = [sys.executable, "-c", PROGRAM, str(beton)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


# as PROGRAM, for views of image files
FILES_PROGRAM = """
import sys
from numba.core import event
from deit_fast.data.load.file_parts import try_out_files

with event.install_recorder("numba:compile") as recorder:
    try_out_files(48)
print(sorted(str(record.data["dispatcher"].py_func.__qualname__) for _, record in recorder.buffer if record.is_start))
"""


@pytest.mark.slow
def test_image_files_need_no_beton_to_compile() -> None:
    module.compile_ahead(None, (module.FILES,))
    done = subprocess.run([sys.executable, "-c", FILES_PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_of_two_that_begin_at_once_one_compiles(beton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[Path | None, list[str]]] = []

    def compile_slowly(path: Path | None, parts: list[str]) -> bool:
        begun.append((path, parts))
        time.sleep(0.3)
        return True

    monkeypatch.setattr(module, "_cache_folder", lambda: tmp_path / "made" / "now")
    monkeypatch.setattr(module, "_compile", compile_slowly)
    threads = [threading.Thread(target=module.compile_ahead.__wrapped__, args=(beton,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun == [(beton, ["decode", "rest"])]
    module.compile_ahead.__wrapped__(beton, tuple(module.PARTS))  # what is compiled already is left out
    assert begun[1:] == [(beton, ["gather", "half"])]
    for _ in range(2):
        module.compile_ahead.__wrapped__(None, (module.FILES,))
    assert begun[2:] == [(None, ["files"])]


def test_the_functions_of_all_parts_are_found() -> None:
    decoding, rest, gathering, halving = (module._names(list(functions)) for functions in module.PARTS.values())
    assert {
        "deit_fast.kernels.decode.decode_batch_by",
        "deit_fast.kernels.decode._decode_group",
        "deit_fast.kernels.jpeg.decode_window.decode_window",
    } <= decoding
    assert {"deit_fast.kernels.operations.apply_all_by", "deit_fast.kernels.mix.soft_targets"} <= rest
    assert "deit_fast.kernels.rng.sample_of" in decoding & rest
    assert not any("operations" in name for name in decoding)
    of_files = module._names(list(OF_FILES))
    assert {"deit_fast.kernels.jpeg.decode_pair.finish_either", "deit_fast.kernels.centre_view.show"} <= of_files
    assert {"deit_fast.kernels.gather.gather", "deit_fast.kernels.jpeg.sent_tiles.send"} <= gathering
    assert "deit_fast.kernels.jpeg.decode_half.decode_half" in halving - decoding  # of those alone who ask for it


def test_a_loader_that_was_tried_out_is_as_it_was(beton: Path) -> None:
    for loader, fresh in zip(_loaders(beton), _loaders(beton), strict=True):
        for part in module.PARTS:
            module._try_out(loader, part)
        for batch, wanted in zip(loader, fresh, strict=True):
            assert torch.equal(batch.images, wanted.images)
            assert torch.equal(batch.targets, wanted.targets)
            assert torch.equal(batch.samples, wanted.samples)


def test_what_fails_leaves_no_mark(beton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cache_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "_PROGRAM", "raise SystemExit(1)")
    module.compile_ahead.__wrapped__(beton)
    assert [path.name for path in tmp_path.iterdir()] == ["compiling.lock"]
    monkeypatch.setattr(module, "_PROGRAM", "print('+a b'); print('a')")
    (tmp_path / "compiled-of-others").touch()
    module.compile_ahead.__wrapped__(beton)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"compiling.lock", *("compiled-{}-{}-{}".format(part, *module._digests()) for part in module.ON_CPU)}
    monkeypatch.setattr(module, "_compile", None)  # is not called again
    module.compile_ahead.__wrapped__(beton)


def test_without_a_folder_for_the_cache_nothing_is_started(monkeypatch: pytest.MonkeyPatch, beton: Path) -> None:
    monkeypatch.setattr(module, "_cache_folder", lambda: None)
    monkeypatch.setattr(module, "_compile", None)
    module.compile_ahead.__wrapped__(beton)
