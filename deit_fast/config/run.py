"""Takes nothing, gives the sections about a run, and all sections together."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from deit_fast.config.data import AugmentConfig, DataConfig, InspectConfig, SourceConfig, VerifyConfig, WriteConfig
from deit_fast.config.options import Pair, option


@dataclass(frozen=True)
class ModelConfig:
    """Which architecture."""

    name: str = option("deit_small_patch16_224", "timm's name of the architecture")
    drop_path: float = option(0.1, "stochastic depth: drop probability of the last block, linear from 0 on")
    options: dict[str, Any] = option({}, "further arguments of timm.create_model: key=value,... or a YAML mapping")
    blurpool: bool = option(False, "blur before each strided convolution of a convnet (Zhang 2019, as ffcv-imagenet)")


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser."""

    name: Literal["adamw", "sgd"] = option("adamw", "optimiser")
    lr: float = option(5e-4, "peak learning rate for a global batch of optim.lr_batch_size views")
    lr_batch_size: int = option(512, "the rate is scaled by global batch / this; 0: not scaled")
    weight_decay: float = option(0.05, "weight decay; not on 1-D parameters, biases, pos_embed and cls_token")
    betas: Pair = option((0.9, 0.999), "AdamW's decay rates of the moments")
    eps: float = option(1e-8, "AdamW's epsilon")
    momentum: float = option(0.9, "SGD's momentum")


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over time."""

    kind: Literal["cosine", "linear"] = option("cosine", "decay after the warm-up: cosine over all epochs, or linear")
    warmup_epochs: float = option(5.0, "epochs of linear warm-up from schedule.warmup_lr")
    warmup_lr: float = option(1e-6, "learning rate at the start of the warm-up, not scaled")
    min_lr: float = option(1e-5, "learning rate at the end, not scaled")
    update: Literal["deit", "epoch", "step"] = option(
        "deit", "when the rate is set: each step; each epoch; or as DeiT's code does it, each epoch and one epoch late"
    )


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    epochs: int = option(300, "epochs to train")
    seed: int = option(0, "seed of everything random")
    device: Literal["auto", "cpu", "cuda"] = option("auto", "device; auto: cuda where there is one, else cpu")
    amp: Literal["auto", "off", "bf16", "fp16"] = option(
        "auto", "mixed precision: bf16, fp16 with a gradient scaler, or off; auto: bf16 on cuda, off on cpu"
    )
    channels_last: bool = option(True, "keep images and convolutions in channels-last memory format")
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = option("off", "torch.compile mode")
    ema_decay: float = option(0.99996, "decay of the exponential moving average of the weights; 0: no average")
    ema_warmup: bool = option(False, "let the decay rise as (1 + updates) / (10 + updates), up to train.ema_decay")
    log_every: int = option(50, "steps between two logged losses (the loss is read from the device only then)")
    eval_every: int = option(1, "epochs between two evaluations; the last epoch is always evaluated")
    resume: bool = option(False, "go on from run.dir's last checkpoint (start anew where there is none)")


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation."""

    checkpoint: str = option("", "checkpoint to evaluate")
    weights: Literal["auto", "model", "ema"] = option("auto", "weights to evaluate; auto: the better in the checkpoint")
    flip: bool = option(False, "add the logits of the mirrored image (test-time augmentation)")


@dataclass(frozen=True)
class RunSection:
    """Where a run is recorded."""

    dir: str = option("", "folder of the run: configuration, log, checkpoints; empty: runs/NAME-DATE-TIME")


@dataclass(frozen=True)
class BenchConfig:
    """Throughput and fidelity."""

    kind: Literal["train", "write", "loader", "fidelity"] = option(
        "train",
        "train: images per second of data alone, compute alone and both; write: of conversion, beside stock FFCV's; "
        "loader: views per second of the data path, by stage and by threads, and beside other loaders; fidelity: no "
        "speed, but how far views are from Pillow's and timm's",
    )
    steps: int = option(30, "train: steps in one measurement")
    rounds: int = option(5, "measurements of each kind, interleaved; the median is reported")
    seconds: float = option(3.0, "loader: length of one measurement at least, in seconds")
    against: tuple[str, ...] = option((), "loader: rivals to measure beside ours, of timm, ffcv (stock FFCV) and dali")
    work: tuple[str, ...] = option(
        (),
        "loader: what to measure: stages and threads, as data and augment say; recipe3, recipe1, crop, raw and evaluation, "
        "as DeiT's recipe has them; empty: all",
    )
    threads: int = option(
        0, "loader: measured with 1, 2, 4 threads and so on up to so many, rivals with so many; 0: one for each core"
    )
    images: int = option(
        2048,
        "loader, fidelity: take so many images at most, from each class its share; 0: all; fidelity without source.path: so "
        "many random images",
    )
    chart: str = option("", "loader: PNG to draw the result in; empty: beside --out, where that is given")
    markdown: str = option("", "fidelity: page to write the table to, in Markdown; empty: none")


@dataclass(frozen=True)
class ReportConfig:
    """Report of finished runs."""

    runs: tuple[str, ...] = option((), "run folders to report on")
    html: str = option("", "page to write; empty: report.html in the first run's folder")


@dataclass(frozen=True)
class DemoConfig:
    """The demonstration on scikit-learn's digits."""

    dir: str = option("runs/demo", "folder of the demonstration; an earlier demonstration in it is replaced")


@dataclass(frozen=True)
class RunConfig:
    """All that a command was asked to do. `out` is where a command that measures or reports puts its result as JSON."""

    source: SourceConfig = field(default_factory=SourceConfig)
    write: WriteConfig = field(default_factory=WriteConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    run: RunSection = field(default_factory=RunSection)
    bench: BenchConfig = field(default_factory=BenchConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    demo: DemoConfig = field(default_factory=DemoConfig)
    out: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dictionary of every section, as it goes into JSON and checkpoints."""
        return dataclasses.asdict(self)
