"""Batches at fixed addresses: the same training bit for bit, marked for compiled steps, refilled only when they were read."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from deit_fast.data.load.loader import train_loader
from deit_fast.train.dist import World
from deit_fast.train.inputs import FixedInputs, fixed_inputs
from deit_fast.train.step import on_device
from deit_fast.train.trainer import Trainer
from tests.tiny_runs import TINY, MakeRun
from tests.train.learners import CPU, copied_weights, distilling, random_batch, small_config, small_learner


def test_two_memories_take_turns() -> None:
    inputs = FixedInputs(CPU)
    places = []
    for number in range(6):
        size, side = (4, 8) if number < 4 else (3, 16)  # the last batches are smaller, at another resolution
        images, targets = torch.full((size, side, side, 3), number), torch.full((size, 10), number + 0.5)
        placed = inputs.fill(images, targets)
        assert all(torch.equal(*pair) for pair in zip(placed, (images, targets), strict=True))
        places.append([tensor.data_ptr() for tensor in placed])
    assert places[0] == places[2] != places[1] == places[3]
    assert len({place for pair in places for place in pair}) == 8
    again = inputs.fill(torch.zeros(4, 8, 8, 3, dtype=torch.int64), torch.zeros(4, 10))
    assert [tensor.data_ptr() for tensor in again] in places[:2]


@pytest.mark.parametrize(
    ("device", "compile_mode", "channels_last", "is_of_use"),
    [
        ("cuda", "reduce-overhead", True, True), ("cuda", "max-autotune", True, True), ("cuda", "default", True, False),
        ("cuda", "off", True, False), ("cpu", "reduce-overhead", True, False), ("cuda", "max-autotune", False, False),
    ],
)  # fmt: skip
def test_only_cuda_graphs_want_them(device: str, compile_mode: str, channels_last: bool, is_of_use: bool) -> None:
    train = small_config({"train.compile": compile_mode, "train.channels_last": channels_last}).train
    assert (fixed_inputs(train, torch.device(device)) is not None) == is_of_use


@pytest.mark.parametrize("name", ["plain", "pieces, growing resolution", "teacher"])
def test_training_from_fixed_memory_is_the_same_bit_for_bit(name: str, tiny_run: MakeRun, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train.log_every": 1000}
    if name == "teacher":
        changes |= distilling(tmp_path)
    if name == "pieces, growing resolution":
        growing = {"data.start_resolution": 16, "data.ramp": (0.0, 0.5), "model.options": {**TINY, "dynamic_img_size": True}}
        changes |= {"train.accumulate": 3, "augment.repeats": 3, **growing}
    weights, places = [], set()
    for is_fixed in (False, True):
        with contextlib.closing(Trainer(tiny_run(**changes), World(0, 1, CPU))) as trainer:
            trainer._inputs = FixedInputs(CPU) if is_fixed else None
            for epoch in range(2):
                for step, batch in enumerate(itertools.islice(trainer.batches(epoch), 5)):
                    assert batch.is_fixed == is_fixed and not batch.copy().is_fixed
                    if is_fixed:
                        places.add((batch.images.shape, batch.images.data_ptr(), batch.targets.data_ptr()))
                    trainer.train_on(batch, epoch, step)
            weights.append(copied_weights(trainer))
    assert all(torch.equal(weights[1][key], value) for key, value in weights[0].items())
    assert len(places) == 2 * len({shape for shape, *_ in places})


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_step_copies_batches_that_lie_anywhere(pieces: int, tmp_path: Path) -> None:
    weights, addresses = [], set()
    for inputs in (None, FixedInputs(CPU, num_in_turn=1)):
        learner = small_learner({**distilling(tmp_path), "train.accumulate": pieces})
        assert learner.step._inputs is None  # on a CPU
        learner.step._inputs = inputs
        forward = learner.step._forward
        if inputs is not None:
            forward.register_forward_pre_hook(lambda _, pieces: addresses.add(tuple(piece.data_ptr() for piece in pieces[:2])))
        batches = [random_batch(number) for number in range(3)]
        for number, batch in enumerate(batches):
            learner.train_on(batch, 0, number)
        weights.append(copied_weights(learner))
    assert all(torch.equal(weights[1][key], value) for key, value in weights[0].items())
    assert len(addresses) == pieces


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [1, 3])
def test_compiled_steps_know_that_addresses_return(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches at several addresses are one compiled function, whose inputs need no copy."""
    compile_with = torch.compile
    marks: list[dict[str, str | None]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
        of_node = {node.name: node.meta.get("tensor_dict", {}).get("_dynamo_static_input_type") for node in nodes}
        marks.append({name: of_node[name] for name in ("l_images_", "l_targets_")})
        return graph

    monkeypatch.setattr(torch, "compile", lambda module, mode, dynamic: compile_with(module, backend=backend, dynamic=dynamic))
    for inputs in (None, FixedInputs(CPU, num_in_turn=1)):
        torch._dynamo.reset()
        learner = small_learner({"train.compile": "reduce-overhead", "train.accumulate": pieces})
        learner.step._inputs = inputs
        for number, is_fixed in enumerate((True, False, True, False)):
            learner.train_on(dataclasses.replace(random_batch(number), is_fixed=is_fixed), 0, number)
        mark = "unguarded" if inputs else None
        assert marks == [{"l_images_": mark, "l_targets_": mark}]
        marks.clear()


class _Device:
    """Stands in for torch.cuda: notes in `log` what is queued, in order, as (stream, what)."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.at = "compute"
        self._num_ends = 0

    def Stream(self, device: torch.device) -> Any:
        return self._stream("copies")

    def _stream(self, name: str) -> Any:
        return SimpleNamespace(
            name=name,
            record_event=lambda: self._record(name),
            wait_event=lambda event: self.log.append((name, f"wait {event}")),
            wait_stream=lambda other: self.log.append((name, f"wait {other.name}")),
        )

    def _record(self, name: str) -> str:
        event = f"end {self._num_ends}"
        self._num_ends += 1
        self.log.append((name, event))
        return event

    def current_stream(self, device: torch.device) -> Any:
        return self._stream(self.at)

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.at, before = stream.name, self.at
        yield
        self.at = before


def test_a_memory_is_refilled_after_the_step_that_read_it(tiny_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which copies and steps are queued on the streams of a device."""
    device = _Device()
    for name in ("Stream", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(device, name))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    inputs = FixedInputs(CPU)
    places: list[int] = []
    config, fill = tiny_run(), inputs.fill
    with contextlib.closing(train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=CPU)) as loader:

        def filled(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            placed = fill(images, targets)
            places.append(placed[0].data_ptr())
            device.log.append((device.at, f"fill {places.index(places[-1])}"))
            return placed

        monkeypatch.setattr(inputs, "fill", filled)
        batches = on_device(loader, torch.device("cuda", 0), channels_last=True, inputs=inputs)
        for _ in range(4):
            batch = next(batches)
            device.log.append((device.at, f"read {places.index(batch.images.data_ptr())}"))
        batches.close()
    wanted = [("compute", "end 0"), ("copies", "wait end 0"), ("copies", "fill 0"), ("compute", "wait copies")]
    for number in range(1, 4):
        before, now = (number - 1) % 2, number % 2
        wanted += [("compute", f"read {before}"), ("compute", f"end {number}"), ("copies", f"wait end {number - 1}")]
        wanted += [("copies", f"fill {now}"), ("compute", "wait copies")]
    assert device.log == [*wanted, ("compute", "read 1")]
