"""Training on a CUDA device: its steps never wait, learn what the CPU's do, and go on from checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.__main__ import main
from deit_fast.config import RunConfig, UserError
from deit_fast.data.load.loader import Batch
from deit_fast.plan.training import train
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint
from deit_fast.train.dist import World
from deit_fast.train.low_frequencies import low_frequencies
from deit_fast.train.step import on_device
from deit_fast.train.trainer import Trainer
from tests.tiny_runs import TINY, MakeRun, events_of
from tests.train.learners import CPU, STEPS, copied_weights, distilling, losses_of, random_batch, small_learner

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    """Float32 products without TF32, so that the CPU's are what they are compared with."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before)
    torch.backends.cudnn.allow_tf32 = True


@contextlib.contextmanager
def _no_waiting() -> Iterator[None]:
    """Within, PyTorch raises where the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("name", [*STEPS, "distillation"])
def test_nothing_in_a_step_waits_for_the_device(name: str, amp: str, tmp_path: Path) -> None:
    if (name, amp) == ("lamb", "fp16"):
        pytest.skip("PyTorch's gradient scaler reads whether to take the step of an optimiser that is not fused")
    changes = distilling(tmp_path) if name == "distillation" else STEPS[name]
    learner = small_learner({**changes, "train.amp": amp}, CUDA)
    batches = [random_batch(step, device=CUDA) for step in range(4)]
    learner.train_on(batches[0], 0, 0)  # libraries load, and state is made
    torch.cuda.synchronize()
    with _no_waiting():
        for step, batch in enumerate(batches[1:], 1):
            learner.train_on(batch, 0, step)
    assert learner.step.read().first_bad is None


def test_a_crop_of_frequencies_waits_for_nothing() -> None:
    images = torch.randn(2, 3, 32, 32, device=CUDA)
    low_frequencies(images, 16)
    with _no_waiting():
        low_frequencies(images, 16)


def test_waiting_would_be_found() -> None:
    with _no_waiting(), pytest.raises(RuntimeError):
        torch.ones((), device=CUDA).item()


def _losses(changes: dict[str, Any], device: torch.device, steps: int = 5) -> list[float]:
    return losses_of(small_learner({"model.drop_path": 0.0, "optim.eps": 1e-4, **changes}, device), steps)


@pytest.mark.parametrize("name", [*STEPS, "distillation"])
def test_losses_follow_those_on_the_cpu(name: str, tmp_path: Path) -> None:
    changes = {**(distilling(tmp_path) if name == "distillation" else STEPS[name]), "train.amp": "off"}
    assert _losses(changes, CUDA) == pytest.approx(_losses(changes, CPU), rel=1e-3)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_follows_full_precision(amp: str) -> None:
    assert _losses({"train.amp": amp}, CUDA) == pytest.approx(_losses({"train.amp": "off"}, CPU), rel=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_steps_follow_plain_ones(mode: str, tmp_path: Path) -> None:
    changes = {**distilling(tmp_path), "train.ema_decay": 0.9}
    compiled = {**changes, "train.compile": mode, "distil.teacher_compile": True}
    assert _losses(compiled, CUDA) == pytest.approx(_losses(changes, CUDA), rel=1e-3)


@pytest.mark.parametrize("kernel", ["flash", "cudnn", "efficient", "math"])
def test_every_kernel_of_attention_follows_pytorchs_choice(kernel: str) -> None:
    changes = {"train.amp": "bf16", "train.attention": kernel, "model.options": {**TINY, "embed_dim": 32}}
    try:
        losses = _losses(changes, CUDA)
    except UserError as error:
        pytest.skip(str(error))
    assert losses == pytest.approx(_losses({**changes, "train.attention": "auto"}, CUDA), rel=1e-2)


def test_a_kernel_that_cannot_compute_in_float32_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.attention=flash: .* cannot use it here \(Expected .*dtype"):
        small_learner({"train.amp": "off", "train.attention": "flash"}, CUDA)


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_patches_embedded_by_a_linear_layer_follow_the_convolution(amp: str) -> None:
    linear = _losses({"train.amp": amp, "train.patch_embed": "linear"}, CUDA)
    assert linear == pytest.approx(_losses({"train.amp": amp}, CUDA), rel=1e-3 if amp == "off" else 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [1, 2])
def test_cuda_graphs_read_batches_where_they_lie(pieces: int, tiny_run: MakeRun) -> None:
    """Two addresses for each piece, so as many graphs of the forward pass, and the losses of a run without any."""
    from torch._inductor import cudagraph_trees  # takes seconds

    torch.compiler.reset()
    losses = []
    for compile_mode in ("off", "reduce-overhead"):
        changes = {"train.device": "cuda", "train.amp": "off", "train.compile": compile_mode, "train.accumulate": pieces}
        trainer = Trainer(tiny_run(**{**changes, "train.log_every": 1, "optim.eps": 1e-4}), World(0, 1, CUDA))
        with contextlib.closing(trainer):
            losses.append([_loss_on(trainer, batch, step) for step, batch in enumerate(trainer.batches(0))])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    manager = cudagraph_trees.get_manager(0, create_if_none_exists=False)
    assert manager is not None
    assert sum(map(len, manager.roots.values())) <= 2 * pieces


def _loss_on(trainer: Trainer, batch: Batch, step: int) -> float:
    trainer.train_on(batch, 0, step)
    return trainer.step.read().loss


def test_what_a_step_draws_depends_on_its_place_alone() -> None:
    def loss(epoch: int, step: int, drawn_before: int) -> float:
        learner = small_learner({"model.drop_path": 0.5}, CUDA)
        torch.rand(drawn_before, device=CUDA)
        learner.train_on(random_batch(device=CUDA), epoch, step)
        return learner.step.read().loss

    assert loss(1, 2, drawn_before=0) == pytest.approx(loss(1, 2, drawn_before=7), rel=1e-6)
    assert abs(loss(1, 3, drawn_before=0) - loss(1, 2, drawn_before=0)) > 1e-5


def test_batches_are_copied_on_a_stream_of_their_own() -> None:
    streams = []

    def batches() -> Iterator[Batch]:
        for number in range(4):
            streams.append(torch.cuda.current_stream(CUDA))
            batch = random_batch(number, size=64, side=224)
            images, targets = (tensor.pin_memory().to(CUDA, non_blocking=True) for tensor in (batch.images, batch.targets))
            yield dataclasses.replace(batch, images=images, targets=targets)

    sums = []
    for batch in on_device(batches(), CUDA, channels_last=True):
        torch.cuda._sleep(10_000_000)  # the step is still busy when the next batch's copy is queued
        sums.append(batch.images.double().sum())
        del batch
    wanted = [float(random_batch(number, size=64, side=224).images.double().sum()) for number in range(4)]
    assert [float(found) for found in sums] == pytest.approx(wanted, rel=1e-9)
    assert torch.cuda.current_stream(CUDA) not in streams


def test_a_run_goes_on_from_a_checkpoint_inside_an_epoch(
    tiny_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(name: str, **changes: Any) -> RunConfig:
        options = {"train.device": "cuda", "train.amp": "off", "train.log_every": 1, "run.dir": str(tmp_path / name), **changes}
        return tiny_run(**options)

    def losses(name: str) -> list[float]:
        return [event["loss"] for event in events_of(tmp_path / name, "step")]

    whole = train(config("whole"), [])
    train_on = Trainer.train_on

    def ended(trainer: Trainer, batch: Batch, epoch: int, step: int) -> None:
        train_on(trainer, batch, epoch, step)
        if (epoch, step) == (1, 8):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_on", ended)
        train(config("parts", **{"train.checkpoint_steps": 5}), [])
    place = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")["step"]
    assert place == 22 + 5
    num_logged = len(losses("parts"))
    parts = train(config("parts", **{"train.resume": True}), [])
    # sums of gradients are added up in any order on the device, so equal but for rounding
    assert losses("parts")[num_logged:] == pytest.approx(losses("whole")[place:], rel=1e-3)
    assert parts["best_top1"] == pytest.approx(whole["best_top1"], abs=1.0)


def test_a_run_records_its_precision_and_ends_with_what_the_cpu_reads(tiny_run: MakeRun, tmp_path: Path, digits: Path) -> None:
    config = tiny_run(**{"train.device": "cuda", "train.amp": "auto"})
    train(config, [])
    folder = Path(config.run.dir)
    start = next(event for event in read_events(folder / "log.jsonl") if event["event"] == "start")
    assert (start["device"], start["amp"], start["channels_last"]) == ("cuda:0", "bf16", True)
    results = []
    for device in ("cuda", "cpu"):
        out = tmp_path / f"{device}.json"
        words = [f"--eval.checkpoint={folder}/checkpoints/last.pt", f"--data.val={digits / 'val.beton'}", f"--out={out}"]
        assert main(["eval", *words, f"--train.device={device}", "--train.amp=off", "--eval.weights=model"]) == 0
        results.append(json.loads(out.read_text()))
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-4)
    assert results[0]["top1"] == pytest.approx(results[1]["top1"], abs=0.6)


def test_weights_go_between_devices() -> None:
    ours = small_learner({}, CUDA)
    ours.train_on(random_batch(device=CUDA), 0, 0)
    theirs = small_learner({})
    theirs.model.load_state_dict(copied_weights(ours))
    images = random_batch().images
    with torch.no_grad():
        torch.testing.assert_close(ours.model.eval()(images.to(CUDA)).cpu(), theirs.model.eval()(images), rtol=1e-4, atol=1e-5)


def test_bench_step_on_the_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "step.json"
    words = ["--model.name=deit_tiny_patch16_224", "--data.batch_size=8", "--train.device=cuda", "--bench.steps=3"]
    assert main(["bench", "step", *words, "--bench.rounds=2", f"--out={out}"]) == 0
    result = json.loads(out.read_text())
    assert (result["device"], result["precision"]) == ("cuda", "bf16")
    assert torch.cuda.get_device_name(0) in capsys.readouterr().out
