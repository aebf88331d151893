"""Takes nothing, gives the sections about a run, and all sections together."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from deit_fast.config.data import AugmentConfig, DataConfig, InspectConfig, SourceConfig, VerifyConfig, WriteConfig
from deit_fast.config.options import Options, Pair, option, path_option
from deit_fast.config.study import BenchConfig, DemoConfig, PlanConfig, ReportConfig, SweepConfig


@dataclass(frozen=True)
class ModelConfig(Options):
    """Which architecture, and the weights it starts from."""

    name: str = option("deit_small_patch16_224", "timm's name of the architecture, or that of DeiT's code")
    options: dict[str, Any] = option({}, "further arguments of timm.create_model: key=value,... or a YAML mapping")
    weights: str = path_option(
        "",
        "file of weights to start from: a checkpoint of deit_fast, of timm or of DeiT's code, or safetensors; positions are "
        "interpolated to the resolution, and a head for other classes is made anew; empty: fresh weights",
    )
    weights_from: Literal["auto", "model", "ema"] = option(
        "auto", "which weights of that file; auto: the better ones of a checkpoint of deit_fast, else the model's"
    )
    trains: Literal["all", "head", "norms", "attention"] = option(
        "all", "parameters that train: all; the head; the head and normalisation (FixRes); or the head and attention"
    )
    drop_path: float = option(0.1, "stochastic depth: drop probability of the last block; a model without it warns")
    drop_path_rates: Literal["linear", "constant"] = option(
        "linear", "drop probability of the blocks before: rising linearly from 0, or the same for all (DeiT III)"
    )
    dropout: float = option(0.0, "dropout after positions, attention and MLP, as timm had it for DeiT; of a convnet: its head")
    attention_dtype: Literal["auto", "float32"] = option(
        "auto", "float32: queries, keys and softmax of attention outside mixed precision, against losses that are not finite"
    )
    blurpool: bool = option(False, "blur before each strided convolution of a convnet (Zhang 2019, as ffcv-imagenet)")


@dataclass(frozen=True)
class DistilConfig(Options):
    """Distillation of a teacher: by the distillation token where the model has one."""

    kind: Literal["none", "hard", "soft"] = option(
        "none", "none; hard: the teacher's decision is a label; soft: the student follows the teacher's softmax"
    )
    teacher: str = option("regnety_160", "timm's name of the teacher's architecture; RegNetY-16GF in the paper")
    teacher_weights: str = path_option("", "file of the teacher's weights, in any form that model.weights takes")
    teacher_options: dict[str, Any] = option({}, "further arguments of timm.create_model for the teacher")
    teacher_compile: bool = option(False, "compile the teacher as train.compile says for the model")
    alpha: float = option(0.5, "share of the distillation in the loss, 0 to 1; the paper's soft distillation has 0.1")
    tau: float = option(1.0, "temperature of soft distillation; 3 in the paper, 1 in DeiT's code")
    soft_scale: Literal["code", "paper"] = option(
        "code", "soft distillation is divided by the number of logits (DeiT's code), or of images: 1000 times as much (paper)"
    )


@dataclass(frozen=True)
class OptimConfig(Options):
    """Optimiser."""

    name: Literal["adamw", "sgd", "lamb"] = option("adamw", "optimiser")
    lr: float = option(5e-4, "peak learning rate for a global batch of optim.lr_batch_size views")
    lr_batch_size: int = option(512, "the rate is scaled by global batch / this; 0: not scaled")
    weight_decay: float = option(0.05, "weight decay of the parameters that optim.no_decay does not exempt")
    no_decay: Literal["code", "paper", "norms", "none"] = option(
        "code",
        "parameters without decay: 1-D ones, biases, pos_embed and cls_token (DeiT's code); dist_token too (paper); those of "
        "normalisation alone (ffcv-imagenet); none",
    )
    layer_decay: float = option(1.0, "factor of the learning rate from each layer to the one below it; 1: off")
    betas: Pair = option((0.9, 0.999), "AdamW's and LAMB's decay rates of the moments")
    eps: float = option(1e-8, "AdamW's and LAMB's epsilon")
    momentum: float = option(0.9, "SGD's momentum")
    nesterov: bool = option(False, "Nesterov's momentum for SGD, as timm's `sgd` has it")
    clip: float = option(0.0, "limit of gradient clipping; 0: off, as in DeiT")
    clip_mode: Literal["norm", "value", "adaptive"] = option(
        "norm", "what is limited: the norm of all gradients, each value, or each unit's norm over its weights' (Brock 2021)"
    )


@dataclass(frozen=True)
class ScheduleConfig(Options):
    """Learning rate over time."""

    kind: Literal["cosine", "linear", "step"] = option(
        "cosine", "decay after the warm-up: cosine over all epochs, linear, or in steps"
    )
    warmup_epochs: float = option(5.0, "epochs of linear warm-up from schedule.warmup_lr")
    warmup_lr: float = option(1e-6, "learning rate at the start of the warm-up, not scaled")
    min_lr: float = option(1e-5, "learning rate at the end, not scaled")
    decay_epochs: float = option(30.0, "step: epochs from one drop of the rate to the next")
    decay_rate: float = option(0.1, "step: factor of the rate at a drop")
    update: Literal["code", "epoch", "step"] = option(
        "code", "when the rate is set: each step; each epoch (paper); or as DeiT's code does it, each epoch and one epoch late"
    )


@dataclass(frozen=True)
class TrainConfig(Options):
    """The training loop."""

    epochs: int = option(300, "epochs to train")
    seed: int = option(0, "seed of everything random")
    device: Literal["auto", "cpu", "cuda"] = option("auto", "device; auto: cuda where there is one, else cpu")
    amp: Literal["auto", "off", "bf16", "fp16"] = option(
        "auto", "mixed precision: bf16, fp16 with a gradient scaler, or off; auto: bf16 on cuda, off on cpu"
    )
    channels_last: bool = option(True, "keep images and convolutions in channels-last memory format")
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = option("off", "torch.compile mode")
    loss: Literal["ce", "bce"] = option("ce", "cross-entropy with soft targets (DeiT), or binary cross-entropy (DeiT III)")
    bce_threshold: float = option(
        0.0, "binary cross-entropy: targets above this count as 1, others as 0 (DeiT III: 0); negative: targets stay soft"
    )
    mode: Literal["train", "eval"] = option(
        "train", "eval: no stochastic depth, no dropout, batch statistics as they are: how DeiT's code fine-tunes"
    )
    accumulate: int = option(
        1, "pieces in which the gradient of a rank's batch is computed, for models that do not fit; the same views and step"
    )
    gradient_compression: Literal["off", "bf16"] = option("off", "format in which ranks exchange gradients; off: float32")
    ema_decay: float = option(0.99996, "decay of the exponential moving average of the weights; 0: no average")
    ema_warmup: bool = option(False, "let the decay rise as (1 + updates) / (10 + updates), up to train.ema_decay")
    log_every: int = option(50, "steps between two logged losses (the loss is read from the device only then)")
    eval_every: int = option(1, "epochs between two evaluations; the last epoch is always evaluated")
    checkpoint_every: int = option(1, "epochs between two checkpoints; the last epoch always leaves one")
    checkpoint_steps: int = option(0, "steps between two checkpoints within an epoch as well; 0: none")
    keep_last: int = option(2, "newest checkpoints that are kept, beside the best one")
    keep_every: int = option(0, "epochs between checkpoints that are kept for good; 0: none")
    resume: bool = option(
        False, "go on from run.dir's last checkpoint (start anew where there is none; a finished run stays as it is)"
    )


@dataclass(frozen=True)
class EvalConfig(Options):
    """Evaluation."""

    checkpoint: str = path_option("", "checkpoint to evaluate; of other code than deit_fast with model.name beside it")
    weights: Literal["auto", "model", "ema"] = option("auto", "weights to evaluate; auto: the better in the checkpoint")
    flip: bool = option(False, "add the logits of the mirrored image (test-time augmentation)")
    heads: Literal["both", "class", "distillation"] = option("both", "heads of a distilled model that decide")
    fusion: Literal["code", "paper"] = option(
        "code", "how both heads decide: by the mean of their logits (DeiT's code), or the sum of their softmaxes (paper)"
    )


@dataclass(frozen=True)
class RunSection(Options):
    """Where a run is recorded."""

    dir: str = path_option("", "folder of the run: configuration, log, checkpoints; empty: a new one, runs/NAME-DATE-TIME")
    dollars_per_hour: float = option(0.0, "price of all the run's machines together, for the cost so far; 0: not known")
    tensorboard: bool = option(False, "write what the log gets as TensorBoard events too, to run.dir/tensorboard")


@dataclass(frozen=True)
class BudgetConfig(Options):
    """What a run may take; its epochs and schedule are stretched to end inside it."""

    hours: float = option(-1.0, "wall-clock hours, from the start of the process to its end, of all sessions; -1: no limit")
    dollars: float = option(-1.0, "the same in dollars, at run.dollars_per_hour; -1: no limit")
    until: str = option("", "end at the first evaluation that reaches this, as top1=79.8 (percent, of the better weights)")
    longer: bool = option(True, "with hours or dollars: train more than train.epochs where the budget allows it")
    seconds: float = option(20.0, "how long measuring may take before the run, to know how many epochs fit")


@dataclass(frozen=True)
class SlurmConfig(Options):
    """Submission of a training run to SLURM, through submitit; without slurm.nodes it runs here."""

    nodes: int = option(0, "nodes of the job; 0: no job, the run takes place here")
    gpus_per_node: int = option(8, "GPUs and ranks on each node; 0: one rank on the CPU")
    cpus_per_gpu: int = option(12, "CPU cores for each rank")
    memory_gb: int = option(0, "memory of each node in GB; 0: the partition's default")
    hours: float = option(72.0, "time limit of the job")
    partition: str = option("", "partition; empty: the cluster's default")
    account: str = option("", "account; empty: the user's default")
    qos: str = option("", "quality of service; empty: the default")
    constraint: str = option("", "features that nodes must have; empty: none")
    signal_seconds: int = option(120, "notice before the time limit, for a last checkpoint; the job is requeued then")
    max_restarts: int = option(3, "restarts of all ranks after the death of one")
    cluster: Literal["slurm", "local"] = option("slurm", "where: SLURM, or processes of this machine, for trials")


# of RunConfig: what says nothing about a training run itself
OTHER_SECTIONS = (
    "source", "write", "inspect", "verify", "run", "budget", "slurm", "bench", "plan", "sweep", "report", "demo", "out",
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig(Options):
    """All that a command was asked to do. `out` is where a command that measures or reports puts its result as JSON."""

    source: SourceConfig = field(default_factory=SourceConfig)
    write: WriteConfig = field(default_factory=WriteConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
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
    demo: DemoConfig = field(default_factory=DemoConfig)
    out: str = path_option("", "file of the result as JSON; empty: none")

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dictionary of every section, as it goes into JSON and checkpoints."""
        return dataclasses.asdict(self)
