"""Throughput of inference: a row for each model, precision and batch size, or the reason why there is none."""

from __future__ import annotations

import contextlib
import gc
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from deit_fast.__main__ import main
from deit_fast.benchmarks import inference as bench_inference
from deit_fast.benchmarks.eval import MODELS, bench_eval, candidates
from deit_fast.benchmarks.gpu.needs import _Live, forward_needs
from deit_fast.benchmarks.inference import Inference
from deit_fast.config import ModelConfig, RunConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.train.dist import World
from tests.tiny_runs import TINY, with_options
from tests.train.learners import CPU

TINY_DEIT, TINY_RESNET = "deit_tiny_patch16_224", "resnet10t"
OPTIONS = {
    "bench.models": (TINY_DEIT, TINY_RESNET),
    "bench.resolution": 32,
    "bench.batch_sizes": (3, 1),
    "bench.precisions": ("fp32",),
    "bench.rounds": 2,
    "bench.seconds": 0.01,
    "model.name": TINY_DEIT,
    "model.options": TINY,
    "train.device": "cpu",
}


def quick(**changes: Any) -> RunConfig:
    return with_options({**OPTIONS, **{name.replace("__", "."): value for name, value in changes.items()}})


def test_the_command_writes_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "eval.json"
    words = [
        f"--bench.models={TINY_DEIT},{TINY_RESNET}", "--bench.resolution=32", "--bench.batch_sizes=3,1",
        "--bench.precisions=bf16,fp32", "--bench.rounds=2", "--bench.seconds=0.01", f"--model.name={TINY_DEIT}",
        "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2", "--train.device=cpu", f"--out={out}",
    ]  # fmt: skip
    assert main(["bench", "eval", *words]) == 0
    result = json.loads(out.read_text())
    assert (result["kind"], result["skipped"], result["lacks"]) == ("eval", [], {})
    assert {"hardware", "versions", "config"} <= set(result)
    rows = result["rows"]
    wanted = [
        (model, precision, size) for model in (TINY_DEIT, TINY_RESNET) for precision in ("bf16", "fp32") for size in (1, 3)
    ]
    assert [(row["model"], row["precision"], row["batch_size"]) for row in rows] == wanted
    for row in rows:
        rate = row["images_per_second"]
        assert 0 < rate["min"] <= rate["median"] <= rate["max"]
        assert (row["resolution"], len(row["rounds"])) == (32, 2)
    tiny = timm.create_model(TINY_DEIT, img_size=32, **TINY)
    assert rows[0]["num_parameters"] == sum(parameter.numel() for parameter in tiny.parameters())
    resnet = timm.create_model(TINY_RESNET)
    assert rows[-1]["num_parameters"] == sum(parameter.numel() for parameter in resnet.parameters())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [row["model"] for row in rows]


def test_models_are_measured_as_they_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def watch(module: Any, inputs: Any, output: torch.Tensor) -> None:
        images = inputs[0]
        is_last = images.is_contiguous(memory_format=torch.channels_last)
        seen.append((module.training, torch.is_inference_mode_enabled(), images.dtype, output.dtype, len(output), is_last))

    def watched(*arguments: Any, **options: Any) -> Any:
        model = create_model(*arguments, **options)
        model.register_forward_hook(watch)
        return model

    monkeypatch.setattr(bench_inference, "create_model", watched)
    bench_eval(quick(bench__models=(TINY_RESNET,), bench__precisions=("bf16",), bench__batch_sizes=(3,)))
    assert set(seen) == {(False, True, torch.bfloat16, torch.bfloat16, 3, True)}
    assert len(seen) >= 4  # two before, and a batch at least in each of two rounds


@pytest.mark.slow
def test_the_papers_models_have_the_papers_numbers() -> None:
    assert len(MODELS) == len(set(MODELS))
    assert all(timm.is_model(name) for name in MODELS)
    names = ("deit_tiny_patch16_224", "deit_base_patch16_384", "tf_efficientnet_b1", "cait_s24_224", "regnety_160")
    found = candidates(with_options({"bench.models": names, "data.resolution": 96}))
    assert [candidate.resolution for candidate in found] == [224, 384, 240, 224, 224]
    # as published, in millions and 10**9: tables of DeiT, EfficientNet, CaiT and RegNet
    published = [(5.7, 1.26), (86.9, 55.5), (7.8, 0.70), (46.9, 9.4), (83.6, 15.9)]
    for candidate, (parameters, multiply_adds) in zip(found, published, strict=True):
        assert candidate.needs.num_parameters == pytest.approx(parameters * 1e6, rel=0.01)
        assert candidate.needs.multiply_adds == pytest.approx(multiply_adds * 1e9, rel=0.03)


def test_memory_at_one_time_is_what_lives_then() -> None:
    known = torch.zeros(50)
    with _Live([known]) as live:
        first = torch.ones(100)
        second = first + 1
        del first
        third = second[:10] * 2
        assert known.view(5, 10).sum() == 0
        del second, third
        gc.collect()
    assert live.peak_bytes == 4 * 200


def test_a_larger_image_needs_more_at_one_time() -> None:
    small, large = (forward_needs(ModelConfig(name="resnet18"), num_classes=10, resolution=side) for side in (64, 128))
    assert large.peak_values == pytest.approx(4 * small.peak_values, rel=0.01)
    # the stem's output and its like after normalisation at the least: 64 channels at half the side
    assert large.peak_values >= 2 * 64 * 64 * 64


def test_what_would_not_end_in_time_is_left_out() -> None:
    result = bench_eval(quick(bench__models=(TINY_DEIT,), bench__limit_seconds=1e-9))
    (row,) = result["rows"]
    assert (row["batch_size"], len(row["rounds"]), row["batches_in_a_round"]) == (1, 1, 1)
    (skipped,) = result["skipped"]
    assert skipped["reason"] == "no time left: bench.limit_seconds=1e-09"
    result = bench_eval(quick(bench__models=(TINY_DEIT,), bench__batch_sizes=(1, 10**7), bench__limit_seconds=2.0))
    (skipped,) = result["skipped"]
    assert skipped["batch_size"] == 10**7
    assert "bench.limit_seconds=2 leaves" in skipped["reason"] or "of memory" in skipped["reason"]


def test_what_does_not_fit_or_is_lacking_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    result = bench_eval(quick(bench__precisions=("tf32", "fp32"), bench__models=(TINY_DEIT,), bench__batch_sizes=(1, None)))
    assert result["lacks"] == {"tf32": "the device has no TF32"}
    assert [row["precision"] for row in result["rows"]] == ["fp32"]
    assert "GPU's memory alone" in result["skipped"][0]["reason"]
    monkeypatch.setattr(bench_inference, "free_memory_bytes", lambda: 10**6)
    result = bench_eval(quick(bench__models=(TINY_DEIT, TINY_RESNET), bench__batch_sizes=(1, 100)))
    assert [(row["model"], row["batch_size"]) for row in result["rows"]] == [(TINY_DEIT, 1)]
    assert all("GB are free" in skipped["reason"] for skipped in result["skipped"])
    assert len(result["skipped"]) == 3


def test_one_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Inference._measured

    def failing(self: Inference, network: torch.nn.Module, precision: str, size: int) -> dict[str, Any]:
        if precision == "fp16":
            raise RuntimeError('"softmax" not implemented\n for Half')
        if size == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measured(self, network, precision, size)

    monkeypatch.setattr(Inference, "_measured", failing)
    result = bench_eval(quick(bench__precisions=("fp16", "fp32")))
    assert [(row["model"], row["batch_size"]) for row in result["rows"]] == [(TINY_DEIT, 1), (TINY_RESNET, 1)]
    reasons = {(skipped["precision"], skipped["batch_size"]): skipped["reason"] for skipped in result["skipped"]}
    assert reasons == {
        ("fp16", 1): '"softmax" not implemented for Half',
        ("fp16", 3): '"softmax" not implemented for Half',
        ("fp32", 3): "does not fit into the GPU's memory",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bench.models=deit_tiny"], "bench.models=deit_tiny: timm has no such model; did you mean deit_tiny_"),
        (["--bench.models=resnet18,resnet1888"], "bench.models=resnet1888: timm has no such model; did you mean "),
        (["--bench.models=resnet18,resnet18"], "bench.models=resnet18,resnet18: names one twice"),
        ([f"--bench.models={TINY_DEIT}", "--bench.resolution=50"], f"bench.models: {TINY_DEIT}: bench.resolution=50: the "),
        (["--bench.precisions=fp8"], "bench.precisions=fp8: fp8 is not known; want some of fp32, tf32, bf16, fp16"),
        (["--bench.batch_sizes=1,-1"], "bench.batch_sizes=(1, -1): want each >= 1, or auto"),
        (["--bench.batch_sizes=1,1"], "bench.batch_sizes=1,1: names one twice"),
        (["--bench.batch_sizes="], "command line: bench.batch_sizes=: want integers with commas between, or auto"),
        (["--bench.batch_sizes=many"], "command line: bench.batch_sizes=many: want integers with commas between, or auto"),
        (["--bench.limit_seconds=-1"], "bench.limit_seconds=-1.0: want above 0, or unlimited"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "eval.json"
    assert main(["bench", "eval", *words, f"--out={out}"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"deit-fast bench: {message}")
    assert printed.err.count("\n") == 1
    assert (printed.out, out.exists()) == ("", False)


def test_several_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deit_fast.benchmarks.eval.joined_world", lambda _: contextlib.nullcontext(World(0, 2, CPU)))
    with pytest.raises(UserError, match="measures one device"):
        bench_eval(quick())


@pytest.mark.slow
def test_a_compiled_model_is_measured() -> None:
    changes = {"bench__models": (TINY_DEIT,), "bench__batch_sizes": (2,), "model__options": {**TINY, "depth": 1}}
    result = bench_eval(quick(**changes, train__compile="default"))
    (row,) = result["rows"]
    assert row["first_batch_seconds"] > 10 * 2 / row["images_per_second"]["median"]


@pytest.mark.gpu
def test_on_the_device_the_largest_batch_is_found() -> None:
    changes = {"train__device": "cuda", "bench__precisions": ("fp32", "tf32", "bf16", "fp16"), "bench__batch_sizes": (None, 2)}
    result = bench_eval(quick(**changes, bench__models=(TINY_RESNET,), bench__resolution=256))
    sizes = [row["batch_size"] for row in result["rows"]]
    assert sizes[::2] == [2] * len(sizes[::2])
    assert all(size > 2 for size in sizes[1::2])
    assert result["skipped"] == []
    assert all(row["peak_memory_bytes"] > 0 for row in result["rows"])
