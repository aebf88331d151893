"""Sections of a training run, and RunConfig, which holds all sections."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deit_fast.config.convert import InspectConfig, SourceConfig, VerifyConfig, WriteConfig
from deit_fast.config.data import AugmentConfig, DataConfig
from deit_fast.config.learning import OptimConfig, ScheduleConfig
from deit_fast.config.looking import AnalyseConfig, ViewsConfig
from deit_fast.config.model import DistilConfig, ModelConfig
from deit_fast.config.options import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    BETWEEN,
    SEED,
    Decides,
    Options,
    Within,
    option,
    path_option,
)
from deit_fast.config.regroup import FilterConfig, MergeConfig, SplitConfig, SubsetConfig
from deit_fast.config.study import BenchConfig, DemoConfig, PlanConfig, ReportConfig, SweepConfig, TeachConfig
from deit_fast.config.use import ExportConfig, PredictConfig


@dataclass(frozen=True)
class TrainConfig(Options):
    """The training loop."""

    epochs: int = option(300, "epochs to train", within=Within("1 to 65535", lambda v: 1 <= v <= 65535))
    seed: int = option(0, "seed of all random choices", within=SEED, decides=Decides.WEIGHTS)
    device: Literal["auto", "cpu", "cuda"] = option("auto", "device; auto: cuda if available, else cpu", decides=Decides.TIME)
    amp: Literal["auto", "off", "bf16", "fp16"] = option(
        "auto", "mixed precision: bf16, fp16 with a gradient scaler, or off; auto: bf16 on cuda, off on cpu"
    )
    channels_last: bool = option(True, "keep images and convolutions in channels-last memory format")
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = option(
        "off", "torch.compile mode", decides=Decides.TIME
    )
    attention: Literal["auto", "flash", "cudnn", "efficient", "math"] = option(
        "auto",
        "PyTorch's kernel for attention, of model and teacher; one that cannot run here is refused; auto: PyTorch's choice",
        decides=Decides.TIME,
    )
    patch_embed: Literal["conv", "linear"] = option(
        "conv",
        "how a model computes its patch embedding: convolution, or linear layer; the same but for rounding",
        decides=Decides.TIME,
    )
    loss: Literal["ce", "bce"] = option("ce", "cross-entropy with soft targets (DeiT), or binary cross-entropy (DeiT III)")
    bce_threshold: float | None = option(
        0.0,
        "binary cross-entropy: targets above this count as 1, others as 0 (DeiT III: 0); off: targets stay soft",
        unset="off",
        within=BELOW_1,
        decides=Decides.WEIGHTS,
    )
    mode: Literal["train", "eval"] = option(
        "train", "eval: train in model.eval(), without stochastic depth, dropout or new batch statistics: DeiT's fine-tuning"
    )
    sync_batchnorm: Literal["auto", "all", "off"] = option(
        "auto", "BatchNorm layers whose statistics are of all ranks' views; auto: those of the hMLP stem, as in DeiT's code"
    )
    accumulate: int = option(
        1,
        "gradient accumulation: split a rank's batch into this many parts, to save memory; views and steps stay the same",
        within=AT_LEAST_1,
        decides=Decides.TIME,
    )
    gradient_compression: Literal["off", "bf16"] = option("off", "format in which ranks exchange gradients; off: float32")
    ema_decay: float | None = option(
        0.99996, "decay of the exponential moving average of the weights; off: no average", unset="off", within=BETWEEN
    )
    ema_warmup: bool = option(False, "let the decay rise as (1 + updates) / (10 + updates), up to train.ema_decay")
    log_every: int = option(
        50,
        "steps between two logged losses (only then is the loss read from the device)",
        within=Within("1 to 1,000,000", lambda v: 1 <= v <= 1_000_000),
        decides=Decides.TIME,
    )
    eval_every: int = option(
        1, "epochs between two evaluations; the last epoch is always evaluated", within=AT_LEAST_1, decides=Decides.TIME
    )
    checkpoint_every: int = option(
        1, "epochs between two checkpoints; the last epoch always leaves one", within=AT_LEAST_1, decides=Decides.TIME
    )
    checkpoint_steps: int | None = option(
        None,
        "also write a checkpoint every so many steps within an epoch",
        unset="off",
        within=AT_LEAST_1,
        decides=Decides.TIME,
    )
    keep_last: int = option(
        2, "number of newest checkpoints to keep, beside the best one", within=AT_LEAST_1, decides=Decides.TIME
    )
    keep_every: int | None = option(
        None,
        "epochs between checkpoints that are kept for good; off: none is",
        unset="off",
        within=AT_LEAST_1,
        decides=Decides.TIME,
    )
    resume: bool = option(
        False,
        "continue from the last checkpoint in run.dir; without one, start anew; a finished run stays as it is",
        decides=Decides.NOTHING,
    )


@dataclass(frozen=True)
class EvalConfig(Options):
    """Evaluation."""

    DECIDES = Decides.TIME

    checkpoint: str = path_option("", "checkpoint to evaluate; if deit_fast did not write it, set model.name too")
    weights: Literal["auto", "model", "ema"] = option("auto", "weights to evaluate; auto: the better ones of the checkpoint")
    flip: bool = option(False, "add the logits of the mirrored image (test-time augmentation)")
    heads: Literal["both", "class", "distillation"] = option("both", "which heads of a distilled model decide")
    fusion: Literal["code", "paper"] = option(
        "code", "combine both heads by the mean of their logits (DeiT's code), or the sum of their softmaxes (paper)"
    )


@dataclass(frozen=True)
class RunSection(Options):
    """Where a run is recorded."""

    DECIDES = Decides.NOTHING

    dir: str = path_option(
        "", "folder of the run: configuration, log, checkpoints; auto: a new one, runs/NAME-DATE-TIME", unset="auto"
    )
    dollars_per_hour: float | None = option(
        None, "price per hour of all the run's machines together, to show its cost", unset="off", within=ABOVE_0
    )
    tensorboard: bool = option(False, "write the logged values as TensorBoard events too, to run.dir/tensorboard")


@dataclass(frozen=True)
class BudgetConfig(Options):
    """Limit of time or money for a run; its epochs and schedule are scaled to fit."""

    DECIDES = Decides.NOTHING

    hours: float | None = option(
        None, "wall-clock hours of all sessions, each from process start to end", unset="unlimited", within=ABOVE_0
    )
    dollars: float | None = option(
        None, "the same limit in dollars, at run.dollars_per_hour", unset="unlimited", within=ABOVE_0
    )
    until: str = option(
        "", "end at the first evaluation that reaches this, e.g. top1=79.8 (percent, of the better weights)", unset="off"
    )
    longer: bool = option(True, "with hours or dollars: train more than train.epochs if the budget allows it")
    seconds: float = option(
        20.0,
        "seconds of measuring before the run, to find how many epochs fit",
        within=Within("1 to 3600", lambda v: 1 <= v <= 3600),
    )


@dataclass(frozen=True)
class SlurmConfig(Options):
    """Submission of a training run to SLURM, through submitit; with slurm.nodes off it runs here."""

    DECIDES = Decides.NOTHING

    nodes: int | None = option(None, "nodes of the job; off: no job, train here", unset="off", within=AT_LEAST_1)
    gpus_per_node: int = option(8, "GPUs on each node, one rank for each; with 0, one rank on the CPU", within=AT_LEAST_0)
    cpus_per_gpu: int = option(12, "CPU cores for each rank", within=AT_LEAST_1)
    memory_gb: int | None = option(
        None, "memory of each node in GB; auto: the partition's default", unset="auto", within=AT_LEAST_1
    )
    hours: float = option(72.0, "time limit of the job in hours", within=ABOVE_0)
    partition: str = option("", "partition; auto: the cluster's default", unset="auto")
    account: str = option("", "account; auto: the user's default", unset="auto")
    qos: str = option("", "quality of service; auto: the default", unset="auto")
    constraint: str = option("", "features that nodes must have", unset="off")
    signal_seconds: int = option(
        120, "seconds before the time limit at which the run writes a checkpoint and is requeued", within=AT_LEAST_1
    )
    max_restarts: int = option(3, "how often all ranks are restarted after one of them died", within=AT_LEAST_0)
    cluster: Literal["slurm", "local"] = option("slurm", "submit to SLURM, or start processes on this machine, for trials")


@dataclass(frozen=True)
class RunConfig(Options):
    """All options of a command. `out`: file to which a command that measures or reports writes its result as JSON."""

    source: SourceConfig = field(default_factory=SourceConfig)
    write: WriteConfig = field(default_factory=WriteConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    merge: MergeConfig = field(default_factory=MergeConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    subset: SubsetConfig = field(default_factory=SubsetConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    run: RunSection = field(default_factory=RunSection)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    teach: TeachConfig = field(default_factory=TeachConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    demo: DemoConfig = field(default_factory=DemoConfig)
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    out: str = path_option("", "JSON file to write the result to; empty: none")

    def changed(self, options: Mapping[str, Any]) -> RunConfig:
        """The configuration with other values of options, as {"section.name": value}."""
        sections: dict[str, dict[str, Any]] = {}
        for key, value in options.items():
            section, name = key.split(".")
            sections.setdefault(section, {})[name] = value
        changed = {section: dataclasses.replace(getattr(self, section), **values) for section, values in sections.items()}
        return dataclasses.replace(self, **changed)

    @property
    def view_seed(self) -> int:
        """The seed of order, views and mixing, by data.seed."""
        return self.train.seed if self.data.seed is None else self.data.seed

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dictionary of every section, as stored in JSON and checkpoints."""
        return dataclasses.asdict(self)

    def options_that_decide(self, what: Decides) -> dict[str, Any]:
        """The values of the options `section.name` that have a say in the weights of a run, or in its time."""
        return {
            f"{section.name}.{own.name}": getattr(getattr(self, section.name), own.name)
            for section in dataclasses.fields(self)
            if isinstance(getattr(self, section.name), Options)
            for own in dataclasses.fields(getattr(self, section.name))
            if what & _decided_by(own, getattr(self, section.name))
        }


def _decided_by(own: dataclasses.Field[Any], section: Options) -> Decides:
    decides: Decides | None = own.metadata["decides"]
    return section.DECIDES if decides is None else decides
