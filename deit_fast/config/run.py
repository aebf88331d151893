"""Sections of a training run, and RunConfig, which holds all sections."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deit_fast.config.data import AugmentConfig, DataConfig, InspectConfig, SourceConfig, VerifyConfig, WriteConfig
from deit_fast.config.looking import AnalyseConfig, ViewsConfig
from deit_fast.config.options import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    BETWEEN,
    FACTOR,
    SEED,
    SHARE,
    Decides,
    Options,
    Pair,
    Within,
    option,
    path_option,
)
from deit_fast.config.regroup import FilterConfig, MergeConfig, SplitConfig, SubsetConfig
from deit_fast.config.study import BenchConfig, DemoConfig, PlanConfig, ReportConfig, SweepConfig, TeachConfig
from deit_fast.config.use import ExportConfig, PredictConfig


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
        "stages of training: a YAML list of mappings with data.resolution and options of augment that hold in a stage, and its "
        "length: `share` of the run's compute (default: the same for each), or `epochs` in proportion to train.epochs; the "
        "learning rate then follows the compute that is done",
        unset="off",
    )


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
