"""Where there is no CUDA: what each option but cpu says, and that nothing of CUDA is imported unless it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import deit_fast.kernels.cuda
from deit_fast.__main__ import main
from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data.load.loader import eval_loader
from deit_fast.data.load.placement import check_device, eval_place
from deit_fast.data.load.views import CpuViews
from tests.data.image_folders import convert, make_images

CPU = torch.device("cpu")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
OPTIONS = [
    (DataConfig(), AugmentConfig(device="gpu"), "augment.device=gpu"),
    (DataConfig(decode="gpu"), AugmentConfig(device="gpu"), "augment.device=gpu"),
]


@without_cuda
@pytest.mark.parametrize(("data", "augment", "option"), OPTIONS)
def test_each_option_but_cpu_says_what_is_missing(data: DataConfig, augment: AugmentConfig, option: str) -> None:
    pytest.importorskip("numba_cuda")
    with pytest.raises(UserError, match=f"^{option}: the GPU path needs an NVIDIA driver: .*; or choose cpu$"):
        check_device(data, augment, CPU)


@pytest.mark.parametrize(("data", "augment", "option"), OPTIONS)
def test_without_numba_cuda_they_say_how_to_get_it(
    data: DataConfig, augment: AugmentConfig, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba_cuda", None)
    monkeypatch.delitem(sys.modules, "deit_fast.kernels.cuda.driver", raising=False)
    monkeypatch.delattr(deit_fast.kernels.cuda, "driver", raising=False)
    with pytest.raises(UserError, match=f"^{option}: the GPU path needs numba-cuda, .* not installed: pip install"):
        check_device(data, augment, CPU)
    check_device(DataConfig(), AugmentConfig(), CPU)


@without_cuda
def test_evaluation_is_where_images_are_decoded(tmp_path: Path) -> None:
    pytest.importorskip("numba_cuda")
    with pytest.raises(UserError, match=r"^data.decode=gpu: the GPU path needs an NVIDIA driver: .*; or choose cpu$"):
        eval_place(DataConfig(decode="gpu"), CPU)
    convert(make_images(tmp_path / "images"), tmp_path / "images.beton", num_workers=1)
    for decode in ("cpu", "auto"):  # wherever training's views are augmented
        data = DataConfig(val=str(tmp_path / "images.beton"), decode=decode, resolution=32, eval_batch_size=4, num_workers=1)
        loader = eval_loader(data, AugmentConfig(device="gpu"), rank=0, world_size=1, device=CPU)
        assert isinstance(loader.views(), CpuViews)
        loader.close()


@pytest.mark.parametrize(
    ("data", "augment", "line"),
    [
        (DataConfig(decode="gpu"), AugmentConfig(), "data.decode=gpu: .* want augment.device=gpu too"),
        (DataConfig(decode="gpu", dct_scaling=True), AugmentConfig(device="gpu"), "data.dct_scaling: .* want data.decode=cpu"),
        (DataConfig(dtype="uint8"), AugmentConfig(device="gpu"), "data.dtype=uint8: .* want augment.device=cpu"),
        (DataConfig(decode="auto"), AugmentConfig(), "auto, .*: are decided where models train; want cpu or gpu here"),
    ],
)
def test_options_that_do_not_fit_each_other(data: DataConfig, augment: AugmentConfig, line: str) -> None:
    with pytest.raises(UserError, match=line):
        check_device(data, augment, CPU)


@without_cuda
def test_a_run_is_refused_before_its_folder_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba_cuda")
    convert(make_images(tmp_path / "images"), tmp_path / "images.beton", num_workers=1)
    paths = [f"--data.{name}={tmp_path / 'images.beton'}" for name in ("train", "val")]
    small = ["--data.batch_size=2", "--data.resolution=32", "--model.name=resnet18"]
    run = ["train", *paths, *small, f"--run.dir={tmp_path / 'run'}", "--augment.device=gpu"]
    capsys.readouterr()
    assert main(run) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "augment.device=gpu: the GPU path needs an NVIDIA driver" in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_importing_the_package_imports_nothing_of_cuda() -> None:
    code = (
        "import sys, deit_fast.__main__, deit_fast.cli, deit_fast.data.load.loader, deit_fast.train.loop, "
        "deit_fast.benchmarks.bench, deit_fast.data.load.gpu_decode;"
        "print([name for name in ('numba_cuda', 'numba.cuda', 'deit_fast.kernels.cuda.driver') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
