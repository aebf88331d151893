"""Measures the time of a training step over that of a bare PyTorch loop: `deit-fast bench step`."""

from __future__ import annotations

import copy
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deit_fast.benchmarks.choices import OPTIONS, other_choices
from deit_fast.benchmarks.interleave import interleaved, spread, summary, wait_for
from deit_fast.benchmarks.plain_loop import PlainLoop, Recipe
from deit_fast.benchmarks.result import check_names, described, setting_of, title
from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.data.load.loader import Batch
from deit_fast.model.attention_kernel import BACKENDS
from deit_fast.model.heads import head_logits, is_distilled
from deit_fast.record.clock import Clock
from deit_fast.train import optim
from deit_fast.train.dist import World, joined_world, world_size_of_environment
from deit_fast.train.learner import Learner
from deit_fast.train.step import memory_format
from deit_fast.train.stop import Stop

NUM_CLASSES = 1000
STEPS_PER_EPOCH = 1250  # about ImageNet's with DeiT's global batch; moves nothing but the learning rate
FIRST_STEPS = 3  # compile; with CUDA graphs the second is recorded and the third the first to be replayed

Step = Callable[[], object]


def bench_step(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench step`: seconds of a step of the training loop, and of a bare PyTorch loop.

    Both train the same model from the same weights on one synthetic batch on the device, of data.batch_size views of
    data.resolution and 1000 classes, in the same precision and memory format, with the same optimiser, and on several ranks
    with DistributedDataParallel. No beton is read. Ours is all that the loop does for a batch, from the seed of the step to the
    losses that are read every train.log_every steps; the bare loop has only what every script needs.

    Both are measured in turns, bench.rounds times bench.steps steps each; the first steps, which compile, and one more round
    come first and do not count. The ratio is the median over the rounds. Without train.compile, the operators that a step calls
    are counted too: a measure without noise.

    Beside them, our step with each other value of the options of bench.choices, and its ratio to ours; `lacks` has the reason
    for each value that this device or model cannot use.
    """
    check_names("choices", config.bench.choices, OPTIONS)
    # the rest of a training run's conditions hold; its betons are not read
    check_training(
        dataclasses.replace(config, data=dataclasses.replace(config.data, train="synthetic", val="synthetic")),
        world_size_of_environment(),
    )
    with joined_world(config.train.device) as world, Stop(world) as stop:
        learner = _learner(config, world)
        batch = synthetic_batch(config, world.device)
        bare, _ = bare_loop(learner, batch)  # before the learner moves: it takes a copy of the weights
        steps = {"ours": our_loop(learner, batch, stop), "bare": bare}
        lacks = {}
        for name, other in other_choices(config, config.bench.choices).items():
            try:
                steps[name] = our_loop(_learner(other, world), batch, stop)
            except UserError as error:
                lacks[name] = str(error)
        result = _measure(config, world, steps)
        result |= {"lacks": lacks} | setting_of(learner) | described(config)
    if world.is_main:
        print(_table(result))
    return result


def _learner(config: RunConfig, world: World) -> Learner:
    return Learner(config, world, num_classes=NUM_CLASSES, steps_per_epoch=STEPS_PER_EPOCH)


def synthetic_batch(config: RunConfig, device: torch.device, num_classes: int = NUM_CLASSES) -> Batch:
    """A batch of noise, with targets of two classes each, like mixed images."""
    size, side = config.data.batch_size, config.data.resolution
    generator = torch.Generator().manual_seed(config.train.seed)
    images = torch.randn(size, 3, side, side, generator=generator).to(device, getattr(torch, config.data.dtype))
    classes = torch.randint(num_classes, (size, 2), generator=generator)
    targets = torch.zeros(size, num_classes).scatter_add_(1, classes, torch.tensor([[0.7, 0.3]]).expand(size, 2)).to(device)
    ids = torch.arange(size)
    images = images.contiguous(memory_format=memory_format(config.train.channels_last))
    return Batch(images, targets, ids, torch.zeros_like(ids), is_fixed=True)


def our_loop(learner: Learner, batch: Batch, stop: Stop) -> Step:
    """The work of the training loop on a batch, from receiving it to asking for the next."""
    clock, log_every = Clock(), learner.config.train.log_every
    place = 0

    def step() -> None:
        nonlocal place
        clock.switch("compute")
        learner.train_on(batch, 0, place)
        place = (place + 1) % STEPS_PER_EPOCH
        if learner.step.num_unread == log_every:
            learner.step.read()
        if (reason := stop.agreed()) is not None:
            raise UserError(f"stopped by {reason}")
        clock.switch("data_wait")

    return step


def bare_loop(learner: Learner, batch: Batch) -> tuple[Step, nn.Module]:
    """A plain loop on a batch, starting from a learner's current weights, with the same optimiser; and its own model."""
    config, train, distil, amp = learner.config, learner.config.train, learner.config.distil, learner.step.amp
    model: Any = copy.deepcopy(learner.model)
    recipe = Recipe(
        precision={"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp],
        accumulate=train.accumulate,
        loss=train.loss,
        bce_threshold=train.bce_threshold,
        clip=config.optim.clip,
        clip_mode="agc" if config.optim.clip_mode == "adaptive" else config.optim.clip_mode,
        ema_decay=train.ema_decay,
        kind=distil.kind,
        alpha=distil.alpha,
        tau=distil.tau,
        soft_scale=distil.soft_scale,
        bf16_gradients=train.gradient_compression == "bf16",
        compile=train.compile,
        attention=BACKENDS.get(train.attention),
    )
    optimizer = optim.create_optimizer(config.optim, model, learner.peak_lr)
    optim.set_lr(optimizer, learner.lr(0, 0))
    plain = PlainLoop(
        _TwoHeads(model) if learner.teacher is not None and is_distilled(model) else model,
        optimizer,
        recipe,
        teacher=learner.teacher,
        clipped=optim.clipped_parameters(config.optim, model),
    )
    return lambda: plain.step(batch.images, batch.targets), model


class _TwoHeads(nn.Module):
    """The logits of both heads, also in evaluation mode, in which timm's models give their mean."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return head_logits(self.model, images)


def _measure(config: RunConfig, world: World, steps: dict[str, Step]) -> dict[str, Any]:
    bench = config.bench

    def seconds_of(step: Step, count: int) -> float:
        wait_for(world.device)
        started = time.perf_counter()
        for _ in range(count):
            step()
        wait_for(world.device)
        return time.perf_counter() - started

    first_seconds = {name: seconds_of(step, FIRST_STEPS) for name, step in steps.items()}
    measures = {name: functools.partial(seconds_of, step, bench.steps) for name, step in steps.items()}
    rounds = {name: [s / bench.steps for s in found] for name, found in interleaved(measures, bench.rounds).items()}
    ratios = [ours / bare for ours, bare in zip(rounds["ours"], rounds["bare"], strict=True)]
    views = config.data.batch_size * world.world_size
    return {
        "seconds_per_step": {name: summary(values) for name, values in rounds.items()},
        "images_per_second": {name: views / statistics.median(values) for name, values in rounds.items()},
        "ratio": {**summary(ratios), "of_fastest_rounds": min(rounds["ours"]) / min(rounds["bare"])},
        "choices_over_ours": {
            name: summary([choice / ours for choice, ours in zip(values, rounds["ours"], strict=True)])
            for name, values in rounds.items()
            if name not in ("ours", "bare")
        },
        "rounds": rounds,
        "steps": bench.steps,
        "first_steps": FIRST_STEPS,
        "first_steps_seconds": first_seconds,
        # a mode of PyTorch's dispatcher sees no compiled code
        "operators": {name: num_operators(step) for name, step in steps.items()} if config.train.compile == "off" else None,
    }


class Operators(TorchDispatchMode):
    """Records in `names`, inside its `with` block, PyTorch's operators in order, except views, which do no work."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def num_operators(step: Step) -> int:
    """Number of operators that a step calls."""
    with Operators() as operators:
        step()
    return len(operators.names)


def _table(result: dict[str, Any]) -> str:
    lines = [title(result)]
    for name, seconds in result["seconds_per_step"].items():
        milliseconds = [1000 * value for value in result["rounds"][name]]
        lines.append(
            f"  {name:20}{1000 * seconds['median']:10,.2f} ms a step {result['images_per_second'][name]:12,.1f} images/s   "
            f"({spread(milliseconds, 2)})"
        )
    ratio, operators, first = result["ratio"], result["operators"], result["first_steps_seconds"]
    lines += [
        f"  {'ours / bare':20}{ratio['median']:10.3f}   ({ratio['min']:.3f} to {ratio['max']:.3f}; of the fastest rounds "
        f"{ratio['of_fastest_rounds']:.3f})",
        *([f"  operators in a step: ours {operators['ours']:,}, bare {operators['bare']:,}"] if operators else []),
        f"  first {result['first_steps']} steps{', compilation included' * (result['compile'] != 'off')}: ours "
        f"{first['ours']:.1f} s, bare {first['bare']:.1f} s",
        *(
            f"  {name + ' / ours':28}{of_ours['median']:.3f}   ({of_ours['min']:.3f} to {of_ours['max']:.3f})"
            for name, of_ours in result["choices_over_ours"].items()
        ),
        *(f"  {name:20}left out: {lack}" for name, lack in result["lacks"].items()),
    ]
    return "\n".join(lines)
