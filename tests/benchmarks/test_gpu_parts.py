"""Parts of a bench, each of which may fail, end its process or stand still, and costs no other one's result."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import torch

from deit_fast.benchmarks.gpu.parts import Part, Results, run_apart, run_parts
from deit_fast.config import RunConfig, UserError
from deit_fast.train.dist import World

CONFIG = RunConfig()


def some_parts(config: RunConfig, world: World, results: Results) -> dict[str, Part]:
    def fails() -> dict[str, Any]:
        raise ValueError("a line\nand another")

    def ends() -> dict[str, Any]:
        os._exit(7)

    def waits() -> dict[str, Any]:
        time.sleep(1000)
        raise AssertionError

    return {
        "first": lambda: {"process": os.getpid(), "device": world.device.type},
        "fails": fails,
        "ends": ends,
        "reads": lambda: {"before": list(results), "process": os.getpid()},
        "waits": waits,
        "last": lambda: {"seed": config.train.seed},
    }


@pytest.mark.slow
def test_no_part_costs_the_others_their_results() -> None:
    shown: list[str] = []
    results = run_apart(
        some_parts,
        CONFIG.changed({"train.seed": 5}),
        "cpu",
        begin_before=time.monotonic() + 300,
        end_before=time.monotonic() + 300,
        part_seconds=3,
        report=lambda name, _: shown.append(name),
    )
    assert shown == list(results) == ["first", "fails", "ends", "reads", "waits", "last"]
    assert results["first"]["device"] == "cpu"
    assert results["first"]["process"] not in (os.getpid(), results["reads"]["process"])
    assert results["fails"]["failed"] == "ValueError: a line and another"
    assert "in fails" in results["fails"]["traceback"]
    assert results["ends"] == {"failed": "its process ended (exit code 7)"}
    assert results["reads"]["before"] == ["first", "fails", "ends"]
    assert results["waits"]["failed"].startswith("not done after 3 s, given up")
    assert results["last"] == {"seed": 5}


def test_without_time_all_is_skipped() -> None:
    now = time.monotonic()
    results = run_apart(some_parts, CONFIG, "cpu", begin_before=now, end_before=now, part_seconds=1, report=lambda *_: None)
    assert list(results) == ["first", "fails", "ends", "reads", "waits", "last"]
    assert all(result == {"skipped": "no time left"} for result in results.values())


def test_what_cannot_be_measured_is_skipped_with_its_reason() -> None:
    def no_memory() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def lacking() -> dict[str, Any]:
        raise UserError("no nvJPEG here")

    results: Results = {"done": {"before": 1}}
    shown: list[str] = []
    parts = {"done": lacking, "a": no_memory, "b": lacking}
    run_parts(parts, results, time.monotonic() + 100, lambda name, _: shown.append(name))
    assert "does not fit" in results["a"]["skipped"]
    assert results["b"] == {"skipped": "no nvJPEG here"}
    assert results["done"] == {"before": 1}
    assert shown == ["a", "b"]
    results = {}
    run_parts({"a": no_memory}, results, time.monotonic() - 1, lambda *_: None)
    assert results == {"a": {"skipped": "no time left"}}


def test_a_device_that_is_of_no_more_use_ends_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def synchronize() -> None:
        broken()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    results: Results = {}
    run_parts({"a": broken, "b": dict}, results, time.monotonic() + 100, lambda *_: None)
    assert list(results) == ["a"]
    assert "illegal memory access" in results["a"]["failed"]
