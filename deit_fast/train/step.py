"""One training step: batch, teacher, forward, loss, backward, clipping, update, average.

`on_device` brings the batches, and `TrainStep` trains on them, one after another, in the order of its `__call__`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from deit_fast.config import OptimConfig, TrainConfig, UserError
from deit_fast.data.load.loader import Batch, Loader
from deit_fast.train.dist import World
from deit_fast.train.ema import WeightAverage
from deit_fast.train.inputs import NUM_IN_TURN, FixedInputs, has_graphs
from deit_fast.train.objective import Objective
from deit_fast.train.optim import clip_gradients, clipped_parameters, set_lr

_AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Teacher = Callable[[torch.Tensor], torch.Tensor]
Labels = Callable[[Batch, int, int], torch.Tensor]  # a teacher's answers to a batch at (epoch, step), from a file


def memory_format(channels_last: bool) -> torch.memory_format:
    """Memory format of images for train.channels_last."""
    return torch.channels_last if channels_last else torch.contiguous_format


def on_device(
    batches: Iterable[Batch], device: torch.device, *, channels_last: bool, inputs: FixedInputs | None = None
) -> Generator[Batch, None, None]:
    """The batches as they come, their images in the memory format of train.channels_last; on CUDA their copies run on a
    stream of their own.

    The trainer only queues its kernels, so that it asks for batch n + 1 while the device is at step n: the copy, on another
    stream, does not wait for that step to end. The stream of the trainer waits for the copy.

    inputs: of batches that are a loader's; they are copied there, each valid until the next but one is asked for.
    """
    if inputs is not None:
        assert isinstance(batches, Loader)
        batches = (dataclasses.replace(batch, is_fixed=True) for batch in batches.batches(inputs.fill))
    wanted = memory_format(channels_last)
    if device.type != "cuda":
        for batch in batches:
            yield _laid_out(batch, wanted)
        return
    copies = torch.cuda.Stream(device)
    iterator = iter(batches)
    ends: deque[torch.cuda.Event] = deque(maxlen=NUM_IN_TURN)  # of the last steps
    while True:
        if inputs is not None:  # the next batch takes the place of one that the step before the last has read
            ends.append(torch.cuda.current_stream(device).record_event())
            copies.wait_event(ends[0])
        with torch.cuda.stream(copies):
            made = next(iterator, None)
            if made is None:
                return
            batch = _laid_out(made, wanted)
        compute = torch.cuda.current_stream(device)
        compute.wait_stream(copies)
        for tensor in (batch.images, batch.targets):
            tensor.record_stream(compute)  # its memory is given to another batch only after the step that reads it
        yield batch


def _laid_out(batch: Batch, wanted: torch.memory_format) -> Batch:
    """The batch with its images in a memory format; a copy only where that is not the loaders', which is channels-last."""
    return dataclasses.replace(batch, images=batch.images.contiguous(memory_format=wanted))


@dataclass(frozen=True)
class Window:
    """Results of the steps since the last read, over all ranks.

    loss: their mean. top1: correct decisions in percent. first_bad: index, in the window, of the first step with a non-finite
    loss, or None. bad_here: whether this rank's loss was non-finite there.
    """

    num_steps: int
    loss: float
    top1: float
    first_bad: int | None
    bad_here: bool


class TrainStep:
    """One optimiser step for each call. Nothing in it waits for the device: losses and correct decisions of up to
    train.log_every steps stay there until they are read."""

    def __init__(
        self,
        train: TrainConfig,
        optim: OptimConfig,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        teacher: Teacher | None,
        world: World,
        labels: Labels | None = None,
    ) -> None:
        """labels: the teacher's answers, where it is not there itself."""
        self.amp = resolve_amp(train.amp, world.device)
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.amp == "fp16")
        self._train, self._optim, self._world = train, optim, world
        self._generators = _generators_of(world.device)
        self._average, self._teacher, self._labels = average, teacher, labels
        self._objective = objective
        self._clipped = clipped_parameters(optim, objective.model)
        self._ranks = _exchanging(objective, train, world) if world.world_size > 1 else None
        self._forward: nn.Module = self._ranks or objective
        if train.compile != "off":
            # around the exchange, so that compiled graphs end at its buckets and gradients travel while others are computed
            self._forward = torch.compile(self._forward, mode=train.compile, dynamic=False)  # type: ignore[assignment]
        # for batches that do not lie at fixed addresses; None: no graph reads them
        self._inputs = FixedInputs(world.device, num_in_turn=1) if has_graphs(train, world.device) else None
        self._sums = torch.zeros(train.log_every, 2, device=world.device)  # loss and correct decisions of each unread step
        self._num_unread = 0
        self._num_views = 0

    def __call__(self, batch: Batch, epoch: int, step: int, lr: float) -> None:
        """Train on a batch that lies on the device, at a learning rate. epoch: from 0; step: from 0 in the epoch.

        The model's random draws (stochastic depth, dropout) are a function of (seed, epoch, step, rank)."""
        seed = _seed_of_step(self._train.seed, epoch, step, self._world.rank)
        for generator in self._generators:
            generator.manual_seed(seed)
        if self._train.compile != "off":
            torch.compiler.cudagraph_mark_step_begin()
        set_lr(self.optimizer, lr)

        images, targets = self._pieces(batch)
        answers = self.answers(batch, images, epoch, step)
        for number, piece in enumerate(zip(images, targets, answers, strict=True)):
            share = len(piece[0]) / len(batch.images)
            with self._exchange(is_last=number == len(images) - 1):
                with autocast(self.amp, self._world.device):
                    loss, numbers = self._forward(*piece)
                self.scaler.scale(loss if share == 1 else loss * share).backward()
            self._count(numbers, share)

        if self._optim.clip is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self._optim, self._clipped)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update()
        self._num_unread += 1
        self._num_views += len(batch.images)

    def _pieces(self, batch: Batch) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Images and targets in train.accumulate pieces; where steps are CUDA graphs, at fixed addresses, which PyTorch is
        told."""
        images, targets = batch.images, batch.targets
        if self._inputs is not None and not batch.is_fixed:
            images, targets = self._inputs.fill(images, targets)
        pieces = images.chunk(self._train.accumulate), targets.chunk(self._train.accumulate)
        if self._inputs is not None:
            for tensor in itertools.chain(*pieces):
                torch._dynamo.mark_static_address(tensor, guard=False)
        return pieces

    def answers(self, batch: Batch, images: tuple[torch.Tensor, ...], epoch: int, step: int) -> Sequence[torch.Tensor | None]:
        """The teacher's answers to each piece of the batch, images (B, 3, H, W), as `Objective.answers` gives them; None each
        without a teacher."""
        if self._labels is not None:
            return self._labels(batch, epoch, step).chunk(self._train.accumulate)
        if self._teacher is None:
            return [None] * len(images)
        with autocast(self.amp, self._world.device):
            return [self._objective.answers(self._teacher(piece)) for piece in images]

    def _exchange(self, is_last: bool) -> AbstractContextManager[None]:
        """Context in which ranks exchange gradients: only during the backward pass of the last piece."""
        return nullcontext() if is_last or self._ranks is None else self._ranks.no_sync()

    def _count(self, numbers: torch.Tensor, share: float) -> None:
        """Adds loss and correct decisions of a piece, a share of the batch, to those of the step, on the device."""
        sums = self._sums[self._num_unread]
        if share == 1:
            sums.copy_(numbers)
        else:
            sums[0].add_(numbers[0], alpha=share)
            sums[1].add_(numbers[1])

    @property
    def num_unread(self) -> int:
        """Number of steps since the last read."""
        return self._num_unread

    def wait(self) -> None:
        """Waits for the device to do all steps so far; their results are read, and dropped."""
        if self._num_unread:
            self.read()

    def read(self) -> Window:
        """Results of the steps since the last read, at least one, over all ranks. Waits for the device."""
        assert self._num_unread, "nothing to read"
        here = self._sums[: self._num_unread].double()
        sums = self._world.sum(here.clone()).cpu()
        is_bad = ~torch.isfinite(sums[:, 0])
        first_bad = int(is_bad.int().argmax()) if bool(is_bad.any()) else None
        world_size = self._world.world_size
        window = Window(
            num_steps=self._num_unread,
            loss=sums[:, 0].mean().item() / world_size,
            top1=100 * sums[:, 1].sum().item() / (self._num_views * world_size),
            first_bad=first_bad,
            bad_here=first_bad is not None and not bool(torch.isfinite(here[first_bad, 0])),
        )
        self._sums.zero_()
        self._num_unread = self._num_views = 0
        return window


def _exchanging(objective: Objective, train: TrainConfig, world: World) -> DistributedDataParallel:
    """The objective with gradients averaged over the ranks, bucket by bucket, during the backward pass."""
    ranks = DistributedDataParallel(
        objective,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        # the same parameters take part in each step; compiled graphs and pieces without exchange rule this out
        static_graph=train.compile == "off" and train.accumulate == 1,
    )
    if train.gradient_compression == "bf16":
        ranks.register_comm_hook(None, bf16_compress_hook)
    return ranks


def _generators_of(device: torch.device) -> list[torch.Generator]:
    """The generators that models on a device draw from, including the CPU's.

    torch.manual_seed would seed those of every device each time. Until CUDA has started it also records a stack trace, which
    takes 0.2 ms, a tenth of a very small model's step.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # before that there are none
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators


def _seed_of_step(seed: int, epoch: int, step: int, rank: int) -> int:
    """A 63-bit seed from the run's seed and the place of the step."""
    digest = hashlib.blake2b(f"{seed} {epoch} {step} {rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def resolve_amp(amp: str, device: torch.device) -> str:
    """Precision for train.amp on a device: off, bf16 or fp16."""
    if amp != "auto":
        return amp
    return "bf16" if device.type == "cuda" else "off"


def autocast(amp: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass in the given precision (off, bf16 or fp16)."""
    return torch.autocast(device.type, dtype=_AMP_DTYPES.get(amp, torch.bfloat16), enabled=amp != "off")


def check_dtype(dtype: str, amp: str) -> None:
    """Raises UserError if a model in a precision (off, bf16 or fp16) cannot take images of a dtype (data.dtype)."""
    if dtype == "uint8" or (dtype != "float32" and amp == "off"):
        raise UserError(f"data.dtype={dtype}: want float32 without mixed precision; or set train.amp to bf16 or fp16")
