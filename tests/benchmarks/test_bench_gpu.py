"""The GPU's ceilings and what training gets of them: every part on small models, here mostly on the CPU."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image

from deit_fast.__main__ import main
from deit_fast.benchmarks.gpu import bench, runs
from deit_fast.benchmarks.gpu.ceilings import ceilings, timed
from deit_fast.benchmarks.gpu.chart import gpu_png
from deit_fast.benchmarks.gpu.decode import decode_rates
from deit_fast.benchmarks.gpu.host import host_seconds
from deit_fast.benchmarks.gpu.lines import line_of
from deit_fast.benchmarks.gpu.parts import Report, Results, run_parts
from deit_fast.benchmarks.gpu.steps import choice_rates, multiply_adds
from deit_fast.benchmarks.gpu.updates import average_one_by_one, update_times
from deit_fast.commands.bench.gpu import KIND
from deit_fast.config import ModelConfig, RunConfig
from deit_fast.data.load import gpu_decode
from deit_fast.train.dist import World
from deit_fast.train.ema import WeightAverage
from tests.benchmarks.made_up_gpu import RESULT
from tests.benchmarks.reads import not_taken, options_read
from tests.kernels.jpeg import decoded_by_cpu
from tests.tiny_runs import TINY
from tests.train.learners import CPU, small_config

NAME = "deit_tiny_patch16_224"


@pytest.mark.slow
def test_every_part_gives_a_line(tiny_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where the kernels cannot run: the CPU's functions decode in their place."""
    monkeypatch.setattr(gpu_decode, "decode_tiles", decoded_by_cpu.decode_tiles)
    monkeypatch.setattr(bench, "decode_rates", functools.partial(decode_rates, num_photographs=8))
    monkeypatch.setattr(bench, "SIZES", (4, 6))
    monkeypatch.setattr(bench, "host_seconds", functools.partial(host_seconds, num_views=12))
    options = {"bench.steps": 2, "bench.rounds": 2, "data.batch_size": 16, "model.drop_path": 0.0}
    config, world = tiny_run(**options), World(0, 1, CPU)
    results: Results = {}
    lines: dict[str, list[str]] = {}

    def report(name: str, result: dict[str, Any]) -> None:
        lines[name] = line_of(name, result, results.get("ceilings", {})).splitlines()

    monkeypatch.setattr(bench, "_RUN", (NAME,))
    with options_read(config) as read:
        run_parts(bench.gpu_parts(config, world, results, (NAME,)), results, time.monotonic() + 400, report)
    assert not_taken(read, KIND) == []
    first = ["ceilings", "compile", "kernels", "pixels", "decode 4", "decode 6", "host"]
    assert list(results) == [*first, f"run {NAME}", "places", "updates", f"step {NAME}"]
    assert [name for name, result in results.items() if "failed" in result] == []
    assert [name for name, result in results.items() if "skipped" in result] == ["kernels", "pixels"]
    assert "GB/s read and written" in lines["ceilings"][0]
    assert "skipped: the GPU path needs" in lines["kernels"][0]

    for size in (4, 6):
        found = results[f"decode {size}"]
        names = {"kernels", "kernels, whole", "nvjpeg", "nvjpeg, whole", "nvjpeg of crops", "cpu"}
        assert set(found["photographs_per_second"]) == names
        assert all(rate["min"] > 0 for rate in found["photographs_per_second"].values())
        assert set(found["refused"].values()) == {0}
        one = found["rounds"]
        assert found["ratios"]["kernels / nvjpeg"] == statistics.median(
            ours / theirs for ours, theirs in zip(one["kernels"], one["nvjpeg"], strict=True)
        )
        assert any("times nvjpeg" in line for line in lines[f"decode {size}"])

    host = results["host"]
    assert set(host["seconds"]) == {"plan", "gather", "gather, one thread", "copy"}
    assert host["photographs"] == 4
    assert host["bytes"] > 0
    assert host["over_copy"]["copy"] == 1

    run = results[f"run {NAME}"]
    assert list(run["images_per_second"]) == ["synthetic", "decode cpu, augment cpu"]
    assert list(run["shares"]) == list(run["loaders"]) == ["decode cpu, augment cpu"]
    assert len(run["lacks"]) == 2
    assert min(run["images_per_second"].values()) > 0
    assert "% of synthetic" in lines[f"run {NAME}"][1]

    updates = results["updates"]["updates"]
    assert list(updates) == ["AdamW, fused", "AdamW, foreach", "AdamW, one by one", "average, at once", "average, one by one"]
    assert all(row["bounds"]["bytes"] > 0 and row["seconds"] > 0 for row in updates.values())

    (rate,) = results["places"]["images_per_second"].values()
    assert rate > 0
    assert "data.decode=cpu, augment.device=cpu" in lines["places"][1]
    step = results[f"step {NAME}"]
    assert step["images_per_second"]["min"] <= step["images_per_second"]["median"] <= step["images_per_second"]["max"]
    assert "% of" in lines[f"step {NAME}"][0]
    for slowest in (run["slowest"], step["slowest"]):
        shares = [row["share"] for row in slowest]
        assert shares == sorted(shares, reverse=True)
        assert 0.3 < sum(shares) <= 1


def test_without_a_beton_parts_say_so() -> None:
    config, results = small_config({"bench.steps": 1}), Results()
    parts = bench.gpu_parts(config, World(0, 1, CPU), results, (bench.MODELS[0],))
    names = ("compile", "decode 85", "host", f"run {bench.MODELS[0]}", "places")
    run_parts({name: parts[name] for name in names}, results, time.monotonic() + 100, lambda *_: None)
    assert all(result["skipped"].startswith("data.train is not set: no beton") for result in results.values())


def test_a_step_is_measured_by_each_kernel_that_the_device_has() -> None:
    config, world, results = small_config({"bench.steps": 1, "bench.rounds": 1}), World(0, 1, CPU), Results()
    parts = choice_rates(config, world, NAME)
    names = [name.removeprefix(f"step {NAME} ") for name in parts]
    kernels = {f"attention={kernel}" for kernel in ("cudnn", "flash", "efficient", "math")}
    modes = {f"compile={mode}" for mode in ("default", "max-autotune", "reduce-overhead")}
    together = "attention=cudnn, patch_embed=linear, compile=max-autotune"
    assert set(names) == kernels | modes | {"patch_embed=linear", together}
    tried = {name: parts[name] for name in parts if name.endswith((" attention=math", " attention=cudnn", "=linear"))}
    run_parts(tried, results, time.monotonic() + 100, lambda *_: None)
    assert "skipped" in results[f"step {NAME} attention=cudnn"]
    for choice in ("attention=math", "patch_embed=linear"):
        assert results[f"step {NAME} {choice}"]["images_per_second"]["min"] > 0
    same = choice_rates(config.changed({"train.compile": "max-autotune", "train.attention": "cudnn"}), world, NAME)
    assert not any("attention=cudnn" in name or "max-autotune" in name for name in same)
    in_order = bench.gpu_parts(config, world, Results(), ("deit_small_patch16_224", NAME))
    assert [name for name in in_order if "=" in name] == list(choice_rates(config, world, "deit_small_patch16_224"))


def test_a_decoder_that_fails_costs_no_other_one_its_figures(
    tiny_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: made up")

    monkeypatch.setattr(gpu_decode, "decode_tiles", broken)
    found = decode_rates(tiny_run(**{"bench.rounds": 1}), CPU, 4, num_photographs=8)
    assert set(found["photographs_per_second"]) == {"nvjpeg", "nvjpeg, whole", "nvjpeg of crops", "cpu"}
    assert found["failed_decoders"] == dict.fromkeys(("kernels", "kernels, whole"), "RuntimeError: CUDA error: made up")
    assert "CUDA error: made up" in line_of("decode 4", found, {})


def test_a_road_that_fails_costs_no_other_one_its_figures(
    tiny_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("made up")

    monkeypatch.setattr(runs, "train_loader", broken)
    monkeypatch.setattr(runs, "slowest_kernels", broken)
    options = {"bench.steps": 2, "bench.rounds": 1, "data.batch_size": 4, "model.drop_path": 0.0}
    found = runs.run_rates(tiny_run(**options), World(0, 1, CPU), NAME)
    assert list(found["images_per_second"]) == ["synthetic"]
    assert found["failed_roads"] == {"decode cpu, augment cpu": "RuntimeError: made up"}
    assert found["failed_profile"] == "RuntimeError: made up"
    shown = line_of(f"run {NAME}", found, {})
    assert shown.count("failed: RuntimeError: made up") == 2


def test_a_result_without_a_line_ends_nothing() -> None:
    assert "cannot be shown: KeyError('bytes_per_second')" in line_of("ceilings", {}, {})


def test_all_results_have_lines() -> None:
    limits = RESULT["results"]["ceilings"]
    lines = {name: line_of(name, result, limits) for name, result in RESULT["results"].items()}
    assert "80 % of that speed; 53 GB/s" in lines["kernels"]
    assert "wanted: 1000 us" in lines["kernels"]
    assert "101,176 photographs/s" in lines["kernels"]
    assert "equal 1,022, different 2, left to the CPU 0 (greatest difference 1)" in lines["pixels"]
    assert "all with transfer                failed: RuntimeError: made up" in lines["kernels"]
    assert "10.0 times nvjpeg; 7.1 times nvjpeg of crops; by the time of the device alone 96,000" in lines["decode 85"]
    assert "cpu, half                        failed: ValueError: made up" in lines["decode 85"]
    assert "refused: kernels 0, nvjpeg 3" in lines["decode 85"]
    assert "4.65 us a photograph, 0.67 times the copy" in lines["host"]
    assert "99.0 % of synthetic; 16 threads" in lines["run deit_small_patch16_224"]
    assert "failed: RuntimeError: CUDA error" in lines["run deit_base_patch16_224"]
    assert "batch                            failed: OSError: made up" in lines["host"]
    assert "176.0 us, queued in 8.0 us; at least, by bytes 147.0; 84 % of that speed; 3,500 GB/s" in lines["updates"]


@pytest.mark.parametrize("parts", [list(RESULT["results"]), ["ceilings", "kernels"], ["decode 85"], []])
def test_what_was_measured_is_drawn(parts: list[str]) -> None:
    content = gpu_png({**RESULT, "results": {name: RESULT["results"][name] for name in parts}})
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.height > 60 * len(parts)


@pytest.mark.slow
def test_a_file_is_drawn_by_itself(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(json.dumps(RESULT))
    command = [sys.executable, "-m", "deit_fast.benchmarks.gpu.chart", str(tmp_path / "gpu.json"), str(tmp_path / "gpu.png")]
    subprocess.run(command, check=True)
    assert (tmp_path / "gpu.png").read_bytes() == gpu_png(RESULT)


def test_what_was_measured_is_written_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[str]] = []

    def run(make_parts: object, config: RunConfig, device: str, *, report: Report, **_: float) -> None:
        for name in ("ceilings", "kernels"):
            report(name, RESULT["results"][name])
            written.append(list(json.loads((tmp_path / "gpu.json").read_text())["results"]))

    monkeypatch.setattr(bench, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(bench, "run_apart", run)
    result = bench.bench_gpu(dataclasses.replace(RunConfig(), out=str(tmp_path / "gpu.json")))
    assert written == [["ceilings"], ["ceilings", "kernels"]]
    assert list(result["results"]) == ["ceilings", "kernels"]
    assert (tmp_path / "gpu.png").stat().st_size > 10_000


def test_multiply_adds_are_those_of_the_architecture() -> None:
    tokens, width, depth, classes = 17, TINY["embed_dim"], TINY["depth"], 1000
    linear = 3 * width**2 + width**2 + 8 * width**2  # queries, keys and values; projection; two layers of the MLP
    attention = 2 * tokens * width
    forward = depth * tokens * (linear + attention) + 16 * 3 * 8**2 * width + width * classes
    assert multiply_adds(ModelConfig(name=NAME, options=TINY), 32) == 3 * forward
    # published: 27.7 G operations for DeiT-S, 24.7 for ResNet-50
    assert 2 * multiply_adds(ModelConfig(name="deit_small_patch16_224"), 224) == pytest.approx(27.7e9, rel=0.01)
    assert 2 * multiply_adds(ModelConfig(name="resnet50"), 224) == pytest.approx(24.7e9, rel=0.01)


def test_each_way_to_update_weights_moves_what_an_update_must_read_and_write() -> None:
    width, classes = TINY["embed_dim"], 1000
    of_block = 3 * width**2 + width**2 + 8 * width**2 + (3 + 1 + 4 + 1) * width + 4 * width  # products, biases, two norms
    of_stem = 3 * 8**2 * width + width + 17 * width + width  # patches, positions, class token
    count = TINY["depth"] * of_block + of_stem + 2 * width + width * classes + classes
    config = small_config({"model.options": TINY, "data.resolution": 32})
    found = update_times(config, CPU, {"bytes_per_second": 1e9}, NAME, repeats=1)
    assert found["model"] == NAME
    for way, row in found["updates"].items():
        assert row["needs"]["bytes"] == count * (28 if way.startswith("AdamW") else 12)
        assert row["bounds"]["bytes"] == row["needs"]["bytes"] / 1e9


def test_both_ways_to_average_move_the_same_tensors() -> None:
    """Parameters, statistics of batch normalisation, and counts of batches, which are copied."""
    model = timm.create_model("resnet10t")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    statistics_and_counts = [buffer.numel() * (2 * 8 if buffer.dtype == torch.int64 else 3 * 4) for buffer in model.buffers()]
    config = small_config({"data.resolution": 32})
    updates = update_times(config, CPU, {"bytes_per_second": 1e9}, "resnet10t", repeats=1)["updates"]
    needs = {way: row["needs"]["bytes"] for way, row in updates.items() if way.startswith("average")}
    assert set(needs.values()) == {12 * num_parameters + sum(statistics_and_counts)}

    averages = [WeightAverage(model, 0.9, warmup=False) for _ in range(2)]
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    averages[0].update()
    average_one_by_one(averages[1])
    states = [average.module.state_dict() for average in averages]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(states[1][name], states[0][name])
        assert not torch.equal(states[1][name], tensor - 1)


def test_a_device_waits_until_all_calls_are_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device in whose place calls are noted; each marks the time by the calls before it, a second each."""
    calls: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = calls.count("work") - 3
            calls.append("event")

        def elapsed_time(self, later: Event) -> float:
            assert calls[-1] == "wait"
            return 1000.0 * (later.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: calls.append("hold") if cycles > 0 else None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: calls.append("wait"))
    found = timed(lambda: calls.append("work"), torch.device("cuda"), repeats=2, warm_up=2)
    # one more call tells how long queueing takes
    assert calls == ["work", "work", "wait", "work", "hold", "event", "work", "event", "work", "event", "wait"]
    assert found.seconds == 1
    assert 0 < found.queue_seconds < 1


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
    assert [name for name, result in results.items() if "failed" in result] == []
    assert all("images_per_second" in result for name, result in results.items() if name.startswith("step "))
