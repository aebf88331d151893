"""Sections about how weights change: the optimiser, and its learning rate over time."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from deit_fast.config.options import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    FACTOR,
    Decides,
    Options,
    Pair,
    Within,
    option,
    path_text,
)

OWN_OPTIMISERS = ("adamw", "sgd", "lamb")


TIMM_PREFIX = "timm:"  # before the name of one of timm's


@dataclass(frozen=True)
class OptimConfig(Options):
    """Optimiser."""

    name: str = option(
        "adamw", f"optimiser: {', '.join(OWN_OPTIMISERS)}, or {TIMM_PREFIX}NAME, any of timm's that steps by gradients alone"
    )
    options: dict[str, Any] = option(
        {}, f"further arguments of {TIMM_PREFIX}NAME: key=value,... or a YAML mapping; unset ones are timm's"
    )
    lr: float = option(
        5e-4, "peak learning rate for a global batch of optim.lr_batch_size views", within=ABOVE_0, decides=Decides.WEIGHTS
    )
    lr_batch_size: int | None = option(
        512,
        "multiply the learning rate by (global batch size / this); off: do not scale it",
        unset="off",
        within=AT_LEAST_1,
        decides=Decides.WEIGHTS,
    )
    weight_decay: float = option(
        0.05, "weight decay of the parameters that optim.no_decay does not exempt", within=AT_LEAST_0, decides=Decides.WEIGHTS
    )
    no_decay: Literal["code", "paper", "norms", "off"] = option(
        "code",
        "parameters without weight decay: code (DeiT's): 1-D ones, biases, pos_embed, cls_token; paper: dist_token too; norms "
        "(ffcv-imagenet): those of normalisation only; off: all parameters decay",
    )
    layer_decay: float = option(
        1.0, "layer-wise learning rate decay: factor from each layer to the one below it", within=FACTOR
    )
    betas: Pair = option(
        (0.9, 0.999),
        "decay rates of the moments in AdamW and LAMB",
        within=Within("each 0 up to, not including, 1", lambda v: all(0 <= x < 1 for x in v)),
        decides=Decides.WEIGHTS,
    )
    eps: float = option(1e-8, "AdamW's and LAMB's epsilon", within=ABOVE_0, decides=Decides.WEIGHTS)
    momentum: float = option(0.9, "SGD's momentum", within=BELOW_1, decides=Decides.WEIGHTS)
    nesterov: bool = option(False, "Nesterov's momentum for SGD, as timm's `sgd` has it")
    clip: float | None = option(None, "limit of gradient clipping; off: as in DeiT", unset="off", within=ABOVE_0)
    clip_mode: Literal["norm", "value", "adaptive"] = option(
        "norm", "clip the norm of all gradients, each value, or each unit's gradient norm over its weight norm (Brock 2021)"
    )


@dataclass(frozen=True)
class ScheduleConfig(Options):
    """Learning rate over time."""

    kind: Literal["cosine", "linear", "step"] = option("cosine", "decay after the warm-up: cosine, linear, or in steps")
    warmup_epochs: float = option(5.0, "epochs of linear warm-up from schedule.warmup_lr", within=AT_LEAST_0)
    warmup_lr: float = option(
        1e-6, "learning rate at the start of the warm-up, not scaled", within=AT_LEAST_0, decides=Decides.WEIGHTS
    )
    min_lr: float = option(1e-5, "learning rate at the end, not scaled", within=AT_LEAST_0, decides=Decides.WEIGHTS)
    decay_epochs: float = option(30.0, "schedule.kind=step: epochs between two drops of the learning rate", within=ABOVE_0)
    decay_rate: float = option(
        0.1, "schedule.kind=step: factor of the learning rate at each drop", within=FACTOR, decides=Decides.WEIGHTS
    )
    cosine_from: Literal["start", "warmup"] = option(
        "start",
        "schedule.kind=cosine: where its half wave begins: at the start of training, so that it is entered where the warm-up "
        "ends (timm), or at the end of the warm-up (big_vision, ConvNeXt)",
    )
    update: Literal["code", "epoch", "step"] = option(
        "code", "when the learning rate is set: each step; each epoch (paper); each epoch, one epoch late (DeiT's code)"
    )
    stages: tuple[dict[str, Any], ...] = option(
        (),
        "stages of training: a YAML list of mappings with data.train (the same images, written smaller), data.resolution and "
        "options of augment that hold in a stage, and its length: `share` of the run's compute (default: the same for each), "
        "or `epochs` in proportion to train.epochs; the learning rate then follows the compute that is done",
        unset="off",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.stages, tuple):
            object.__setattr__(self, "stages", tuple(map(_with_path_text, self.stages)))


def _with_path_text(stage: Any) -> Any:
    """A stage whose data.train is text, as that of the run is; a value that is no mapping stays, for the check of types."""
    if not isinstance(stage, dict) or "data.train" not in stage:
        return stage
    return {**stage, "data.train": path_text(stage["data.train"])}
