"""The GPU's ceilings and what training gets of them: every part on small models, here mostly on the CPU."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.__main__ import main
from deit_fast.benchmarks.gpu.bench import _best_places, device_parts, line_of, model_parts, run_parts
from deit_fast.benchmarks.gpu.ceilings import ceilings
from deit_fast.benchmarks.gpu.steps import choice_rates, multiply_adds
from deit_fast.commands.bench.gpu import KIND
from deit_fast.config import ModelConfig, RunConfig, UserError
from deit_fast.data.load import gpu_decode
from deit_fast.plan.placement import PLACES, named
from deit_fast.train.dist import World
from tests.benchmarks.reads import not_taken, options_read
from tests.kernels.jpeg import decoded_by_cpu
from tests.tiny_runs import TINY
from tests.train.learners import CPU, small_config

NAME = "deit_tiny_patch16_224"


@pytest.mark.slow
def test_every_part_gives_a_line(
    tiny_run: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_decode, "decode_tiles", decoded_by_cpu.decode_tiles)
    config = tiny_run(**{"bench.steps": 2, "bench.rounds": 2, "data.batch_size": 16, "model.drop_path": 0.0})
    world, limit = World(0, 1, CPU), time.monotonic() + 100
    with options_read(config) as read:
        results = run_parts(device_parts(config, world), limit)
    assert list(results) == ["ceilings", "decode", "places"]
    of_device = capsys.readouterr().out.splitlines()
    assert "GB/s read and written" in of_device[0]
    assert set(results["decode"]["views_per_second"]) == {"kernels", "nvjpeg", "nvjpeg whole", "cpu"}
    assert all(rate["min"] > 0 for rate in results["decode"]["views_per_second"].values())
    assert set(results["decode"]["refused"].values()) == {0}
    assert "views/s: kernels " in of_device[1]
    (rate,) = results["places"]["images_per_second"].values()
    assert rate > 0
    assert len(results["places"]["lacks"]) == 2 or torch.cuda.is_available()
    assert "data.decode=cpu, augment.device=cpu" in of_device[3]
    with options_read(config) as read_by_models:
        results |= run_parts(model_parts(config, world, (NAME,)), limit, results["ceilings"])
    assert not_taken(read | read_by_models, KIND) == []
    rates = results[f"run {NAME}"]["images_per_second"]
    assert set(rates) == {"data", "compute", "cached", "both"}
    assert results[f"run {NAME}"]["waiting"] == max(0.0, 1 - rates["both"] / rates["compute"])
    assert min(rates.values()) > 0
    step = results[f"step {NAME}"]
    assert step["images_per_second"]["min"] <= step["images_per_second"]["median"] <= step["images_per_second"]["max"]
    lines = capsys.readouterr().out.splitlines()
    assert "% of" in lines[0]
    shares = [row["share"] for row in step["slowest"]]
    assert shares == sorted(shares, reverse=True)
    assert 0.3 < sum(shares) <= 1
    assert [row["name"] in line for row, line in zip(step["slowest"], lines[1:4], strict=False)] == [True] * 3
    assert "waiting for data" in lines[4]


def test_what_cannot_be_measured_is_skipped_with_its_reason() -> None:
    def no_memory() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def lacking() -> dict[str, Any]:
        raise UserError("no nvJPEG here")

    results = run_parts({"run a": no_memory, "run b": lacking}, time.monotonic() + 100)
    assert "does not fit" in results["run a"]["skipped"]
    assert results["run b"] == {"skipped": "no nvJPEG here"}
    assert run_parts({"run a": no_memory}, time.monotonic() - 1) == {"run a": {"skipped": "no time left"}}
    config, world = small_config({"bench.steps": 1}), World(0, 1, CPU)
    parts = device_parts(config, world) | model_parts(config, world, (NAME,))
    results = run_parts({name: parts[name] for name in ("decode", "places", f"run {NAME}")}, time.monotonic() + 100)
    assert all(result["skipped"].startswith("data.train is not set: no beton") for result in results.values())


def test_a_step_is_measured_by_each_kernel_that_the_device_has() -> None:
    config, world = small_config({"bench.steps": 1, "bench.rounds": 1}), World(0, 1, CPU)
    parts = choice_rates(config, world, NAME)
    names = [name.removeprefix(f"step {NAME} ") for name in parts]
    kernels = {f"attention={kernel}" for kernel in ("cudnn", "flash", "efficient", "math")}
    modes = {f"compile={mode}" for mode in ("default", "max-autotune", "reduce-overhead")}
    together = "attention=cudnn, patch_embed=linear, compile=max-autotune"
    assert set(names) == kernels | modes | {"patch_embed=linear", together}
    tried = {name: parts[name] for name in parts if name.endswith((" attention=math", " attention=cudnn", "=linear"))}
    results = run_parts(tried, time.monotonic() + 100)
    assert "skipped" in results[f"step {NAME} attention=cudnn"]
    for choice in ("attention=math", "patch_embed=linear"):
        assert results[f"step {NAME} {choice}"]["images_per_second"]["min"] > 0
    same = choice_rates(config.changed({"train.compile": "max-autotune", "train.attention": "cudnn"}), world, NAME)
    assert not any("attention=cudnn" in name or "max-autotune" in name for name in same)
    in_order = model_parts(config, world, ("deit_small_patch16_224", NAME))
    assert [name for name in in_order if "=" in name] == list(choice_rates(config, world, "deit_small_patch16_224"))


def test_runs_take_the_fastest_place_that_is_allowed() -> None:
    rates = {"images_per_second": {named(places): rate for places, rate in zip(PLACES, (1.0, 3.0, 2.0), strict=True)}}
    both_open = {"data.decode": "auto", "augment.device": "auto"}
    assert _best_places(small_config(both_open), rates) == ("cpu", "gpu")
    assert _best_places(small_config({**both_open, "data.decode": "gpu"}), rates) == ("gpu", "gpu")
    assert _best_places(small_config(both_open), {"skipped": "no beton"}) == ("cpu", "cpu")


def test_multiply_adds_are_those_of_the_architecture() -> None:
    tokens, width, depth, classes = 17, TINY["embed_dim"], TINY["depth"], 1000
    linear = 3 * width**2 + width**2 + 8 * width**2  # queries, keys and values; projection; two layers of the MLP
    attention = 2 * tokens * width
    forward = depth * tokens * (linear + attention) + 16 * 3 * 8**2 * width + width * classes
    assert multiply_adds(ModelConfig(name=NAME, options=TINY), 32) == 3 * forward
    # published: 27.7 G operations for DeiT-S, 24.7 for ResNet-50
    assert 2 * multiply_adds(ModelConfig(name="deit_small_patch16_224"), 224) == pytest.approx(27.7e9, rel=0.01)
    assert 2 * multiply_adds(ModelConfig(name="resnet50"), 224) == pytest.approx(24.7e9, rel=0.01)


@pytest.mark.slow
def test_ceilings_are_rates() -> None:
    found = ceilings(CPU)
    assert found["host_bytes_per_second"] is None
    assert 1e8 < found["bytes_per_second"] < 1e13
    assert 1e7 < found["multiply_adds_per_second"] < 1e14
    assert "TFLOP/s" in line_of("ceilings", found, {})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_all_is_skipped_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu", f"--out={tmp_path / 'gpu.json'}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "skipped: train.device=cuda: this machine has no usable CUDA device; want cpu or auto"
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert "no usable CUDA device" in result["results"]["skipped"]
    assert result["kind"] == "gpu"


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_command_on_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert main(["bench", "gpu", "--data.batch_size=64", "--bench.steps=5", "--bench.rounds=2", f"--out={out}"]) == 0
    results = json.loads(out.read_text())["results"]
    assert results["ceilings"]["bytes_per_second"] > 1e11
    assert all("images_per_second" in result for name, result in results.items() if name.startswith("step "))
