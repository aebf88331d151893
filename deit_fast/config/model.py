"""Sections about what learns, and from whom: the model, and distillation."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from deit_fast.config.options import (
    ABOVE_0,
    BELOW_1,
    SHARE,
    Decides,
    Options,
    option,
    path_option,
)


@dataclass(frozen=True)
class ModelConfig(Options):
    """Which architecture, and the weights it starts from."""

    name: str = option("deit_small_patch16_224", "name of the architecture in timm or in DeiT's code")
    options: dict[str, Any] = option({}, "further arguments of timm.create_model: key=value,... or a YAML mapping")
    weights: str = path_option(
        "",
        "file of weights to start from: a checkpoint of deit_fast, timm or DeiT's code, or safetensors; position embeddings "
        "are interpolated to the resolution, and a head for other classes is replaced; off: random weights",
        unset="off",
        decides=Decides.TIME,
    )
    weights_from: Literal["auto", "model", "ema"] = option(
        "auto",
        "which weights of model.weights to use; auto: the better ones of a deit_fast checkpoint, else the model's",
        decides=Decides.TIME,
    )
    trains: Literal["all", "head", "norms", "attention"] = option(
        "all", "parameters that train: all; the head; the head and normalisation (FixRes); or the head and attention"
    )
    drop_path: float = option(
        0.1, "stochastic depth: drop probability of the last block; a model without it warns", within=BELOW_1
    )
    drop_path_rates: Literal["linear", "constant"] = option(
        "linear", "drop probability from block to block: rises linearly from 0, or is the same for all (DeiT III)"
    )
    drop_path_kind: Literal["mask", "skip"] = option(
        "mask",
        "mask: stochastic depth computes every branch, and drops results by chance; skip: it draws a fixed share of the "
        "samples for each branch and computes only these (efficient stochastic depth of Cosub), which takes less time",
    )
    dropout: float = option(
        0.0,
        "dropout after position embeddings, attention and MLP, as timm had it for DeiT; in a convnet: before the head",
        within=BELOW_1,
    )
    patch_dropout: float = option(
        0.0, "share of its patches that a ViT leaves out of each training view, at random (PatchDropout)", within=BELOW_1
    )
    patch_dropout_tail: float = option(
        0.1, "share of the epochs, at the end of training, that see all patches despite model.patch_dropout", within=BELOW_1
    )
    attention_dtype: Literal["auto", "float32"] = option(
        "auto", "float32: compute queries, keys and softmax in float32 despite mixed precision, if the loss becomes non-finite"
    )
    blurpool: bool = option(False, "blur before each strided convolution of a convnet (Zhang 2019, as ffcv-imagenet)")


@dataclass(frozen=True)
class DistilConfig(Options):
    """Distillation from a teacher, through the distillation token if any, or between submodels."""

    kind: Literal["off", "hard", "soft", "cosub"] = option(
        "off",
        "hard: the teacher's top-1 class is the label; soft: the student matches the teacher's softmax; cosub: no teacher, two "
        "submodels drawn by stochastic depth see each batch and learn from each other",
    )
    teacher: str = option("regnety_160", "teacher's architecture, by its name in timm; the paper uses RegNetY-16GF")
    teacher_weights: str = path_option(
        "", "file of the teacher's weights, in any format that model.weights accepts", decides=Decides.TIME
    )
    teacher_options: dict[str, Any] = option({}, "further arguments of timm.create_model for the teacher")
    labels: str = path_option(
        "",
        "file of the teacher's answers, by deit-fast teach: no teacher is loaded; with teacher_weights too, it must be theirs",
        unset="off",
        decides=Decides.TIME,
    )
    teacher_compile: bool = option(False, "compile the teacher too, in the mode of train.compile", decides=Decides.TIME)
    alpha: float = option(
        0.5,
        "weight of the distillation loss; 0.1 in the paper's soft distillation, 0.5 in Cosub's",
        within=SHARE,
        decides=Decides.WEIGHTS,
    )
    tau: float = option(
        1.0, "temperature of soft distillation; 3 in the paper, 1 in DeiT's code", within=ABOVE_0, decides=Decides.WEIGHTS
    )
    soft_scale: Literal["code", "paper"] = option(
        "code", "divide the soft loss by the number of logits (DeiT's code), or of images (paper): 1000 times as large"
    )

    @property
    def is_taught(self) -> bool:
        """Whether a teacher's answers are learned, its own or those in a file."""
        return self.kind in ("hard", "soft")

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher is loaded, and not a file of its answers."""
        return self.is_taught and not self.labels
