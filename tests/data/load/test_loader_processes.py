"""Processes with a loader that is running end as they should; many loaders in one process give what each gives alone."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import Loader, eval_loader, train_loader
from tests.data.image_folders import convert, make_images
from tests.scale import scaled

CPU = torch.device("cpu")
SOON_SECONDS = 60  # a process that hangs would not end at all
RUNNING = """
import sys
from tests.data.load.test_loader_processes import train
loader = train(sys.argv[1], 0)
def batches():
    while True:
        yield from loader
"""


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": 40, "bee": 30, "cow": 30}, height=90, width=140), out)
    train(str(out), 0).close()
    return out


def train(path: str, seed: int, **data: object) -> Loader:
    """A training loader with the whole recipe."""
    config = DataConfig(**{"train": path, "batch_size": 16, "resolution": 48, "num_workers": 2, **data})  # type: ignore[arg-type]
    return train_loader(config, AugmentConfig(), seed=seed, rank=0, world_size=1, device=CPU)


def evaluate(path: str, resolution: int) -> Loader:
    """An evaluation loader."""
    config = DataConfig(val=path, eval_batch_size=16, resolution=resolution, num_workers=2)
    return eval_loader(config, AugmentConfig(), rank=0, world_size=1, device=CPU)


def _environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_THREADING_LAYER")}
    return {**kept, **variables}


def _run(code: str, beton: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(beton)]
    environment = _environment(**variables)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SOON_SECONDS, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "waits"), [(signal.SIGINT, (0.05, 0.0, 0.3)), (signal.SIGTERM, (0.0, 0.05, 0.3))])
def test_signals_end_the_process(beton: Path, sent: signal.Signals, waits: tuple[float, ...]) -> None:
    """After each of three waits, or a share of them: all three ended it."""
    code = f"{RUNNING}\nfor number, _ in enumerate(batches()):\n    if number == 8: print('running', flush=True)"
    for wait_seconds in waits[: scaled(3)]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(beton)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        time.sleep(wait_seconds)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=SOON_SECONDS)
        assert process.returncode == -sent
        assert ("KeyboardInterrupt" in errors) == (sent == signal.SIGINT)
        with pytest.raises(ProcessLookupError):  # no child is left of the session
            os.killpg(process.pid, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        ("for _ in batches(): raise ValueError('made up')", 1, "ValueError: made up"),
        ("for _ in batches(): sys.exit(3)", 3, ""),
        ("held = iter(loader); next(held)", 0, ""),
    ],
)
def test_endings(beton: Path, ending: str, status: int, message: str) -> None:
    done = _run(f"{RUNNING}\n{ending}", beton)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("Traceback") == (1 if message else 0)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["", "workqueue"])
def test_interpreter_ends_while_batches_are_made(beton: Path, layer: str) -> None:
    """After each of three waits, or a share of them: after all three it ended well."""
    variables = {"NUMBA_THREADING_LAYER": layer} if layer else {}
    for number in range(scaled(3)):
        # resolutions at which the thread is at one batch for longer
        code = (
            "import sys, time\nfrom tests.data.load.test_loader_processes import train\n"
            "loader = train(sys.argv[1], 0, batch_size=96, resolution=320, batches_ahead=8)\n"
            f"held = iter(loader); batch = next(held); time.sleep({number * 0.05})"
        )
        done = _run(code, beton, **variables)
        assert (done.returncode, done.stderr) == (0, "")


def _hash(loader: Loader) -> str:
    digest = hashlib.sha256()
    for batch in loader:
        for tensor in (batch.images, batch.targets, batch.samples, batch.views):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_many_at_once(path: str) -> None:
    """Four training and two evaluation loaders, in turn and from three threads: the same hashes as one after the other."""

    def loaders() -> list[Loader]:
        return [train(path, seed, num_workers=1 + seed % 2) for seed in range(4)] + [evaluate(path, side) for side in (32, 48)]

    alone = [_hash(loader) for loader in loaders()]
    assert len(set(alone)) == 6

    digests = [hashlib.sha256() for _ in range(6)]
    iterators = [iter(loader) for loader in loaders()]
    open_ones = list(range(6))
    while open_ones:
        for number in list(open_ones):
            batch = next(iterators[number], None)
            if batch is None:
                open_ones.remove(number)
                continue
            for tensor in (batch.images, batch.targets, batch.samples, batch.views):
                digests[number].update(tensor.contiguous().numpy().tobytes())
    assert [digest.hexdigest() for digest in digests] == alone

    together = [""] * 6
    shared = loaders()

    def run(first: int) -> None:
        for number in range(first, 6, 3):
            together[number] = _hash(shared[number])

    for _ in range(scaled(3)):
        threads = [threading.Thread(target=run, args=(first,)) for first in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == alone


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["omp", "tbb", "workqueue"])
def test_many_loaders_at_once(beton: Path, layer: str) -> None:
    code = (
        "import sys, numba\nfrom tests.data.load.test_loader_processes import check_many_at_once\n"
        "check_many_at_once(sys.argv[1])\nprint(numba.threading_layer())"
    )
    done = _run(code, beton, NUMBA_THREADING_LAYER=layer)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"Numba cannot load {layer} here")
    assert (done.returncode, done.stdout.strip()) == (0, layer), done.stderr


@pytest.mark.slow
def test_openmp_comes_before_tbb_unless_the_environment_says_otherwise() -> None:
    code = "import numba, deit_fast.data; numba.set_num_threads(1); print(numba.threading_layer())"

    def layer(**variables: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=_environment(**variables), capture_output=True, text=True, check=True).stdout.strip()

    assert layer() == "omp"
    assert layer(NUMBA_THREADING_LAYER="workqueue") == "workqueue"
    assert layer(NUMBA_THREADING_LAYER_PRIORITY="workqueue omp tbb") == "workqueue"
