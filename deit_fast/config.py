"""Takes nothing, gives what a run is: one frozen dataclass for each section, and the checks across sections.

Every default of the project stands here once, beside its meaning and unit. `cli` builds these from YAML and the command
line; every other module takes the section that concerns it.
"""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Pair = tuple[float, float]
Triple = tuple[float, float, float]
SourceKind = Literal[
    "folder", "imagenet", "parquet", "webdataset", "cifar10", "cifar100", "flowers102", "cars", "inat2018", "inat2019"
]


class UserError(ValueError):
    """What the user can mend. Its message is one line: what, got, wanted, remedy. Commands print it and exit with 2."""


class RankError(UserError):
    """A UserError that one rank of several meets alone, and that rank itself therefore prints."""


def option(default: Any, meaning: str) -> Any:
    """A configuration field with its default and its meaning (with the unit), which `--help` prints."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": meaning})
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class SourceConfig:
    """Where images and labels come from before they are in a beton."""

    path: str = option("", "folder, archive or shards to convert, in the layout that source.kind says")
    kind: SourceKind = option(
        "folder",
        "layout: folder (one folder for each class), imagenet (the ILSVRC2012 archives), parquet and webdataset "
        "(shards), or a data set as it is distributed",
    )
    split: Literal["train", "val", "test", "trainval"] = option("train", "which part of a source that has several")
    classes: str = option(
        "", "text file with a class name a line, in the order of the labels, instead of names that shards may carry"
    )
    subset: int = option(0, "take so many images only, from each class its share, for trials; 0: all")
    seed: int = option(0, "seed of the choice of source.subset")


@dataclass(frozen=True)
class WriteConfig:
    """Conversion of a source into a beton."""

    out: str = option("", "beton to write; its manifest goes beside it as OUT.json")
    mode: Literal["jpg", "raw", "proportion", "smart"] = option(
        "jpg",
        "how images are stored: jpg (JPEG), raw (uint8 pixels), proportion (JPEG for write.jpeg_share of them), smart "
        "(raw where the JPEG would not be smaller than write.smart_share of the pixels)",
    )
    jpeg_share: float = option(0.5, "share of images stored as JPEG in mode proportion, 0 to 1")
    smart_share: float = option(0.5, "in mode smart, a JPEG is kept if smaller than this share of the raw pixels' bytes")
    jpeg_quality: int = option(90, "quality of a JPEG that must be encoded, 1 to 100; JPEGs that need no change keep theirs")
    subsampling: Literal["4:2:0", "4:2:2", "4:4:4"] = option("4:2:0", "chroma subsampling of a JPEG that must be encoded")
    optimize: bool = option(False, "Huffman tables optimised for each JPEG: smaller files, slower conversion")
    max_resolution: int = option(0, "largest side of a stored image in pixels; larger ones are scaled down; 0: any")
    resize_side: Literal["longest", "shortest"] = option("longest", "the side that write.max_resolution is about")
    interpolation: Literal["bicubic", "bilinear", "lanczos", "hamming", "box"] = option(
        "bicubic", "filter that scales down, as Pillow computes it, antialiased"
    )
    exif_orientation: Literal["ignore", "apply"] = option(
        "ignore", "whether an image is turned as its EXIF data say (torchvision and timm ignore that)"
    )
    on_error: Literal["fail", "skip"] = option(
        "fail", "what a file that is no image does: end the conversion (fail), or be named in the manifest only (skip)"
    )
    num_workers: int = option(0, "processes that convert; 0: one for each core")
    seed: int = option(0, "seed of the choice of images stored as JPEG in mode proportion")
    resume: bool = option(False, "go on with an interrupted conversion from its finished parts; its source must be as it was")


@dataclass(frozen=True)
class InspectConfig:
    """What is in a beton."""

    beton: str = option("", "beton to describe")


@dataclass(frozen=True)
class VerifyConfig:
    """Check of a beton."""

    beton: str = option("", "beton to check")
    against: str = option("", "source to compare the images with, read as the manifest says it was; empty: none")
    num_workers: int = option(0, "processes that check; 0: one for each core")


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they are loaded."""

    train: str = option("", "beton of the training set")
    val: str = option("", "beton of the validation set")
    batch_size: int = option(128, "views in a training batch of one rank")
    eval_batch_size: int = option(0, "images in an evaluation batch of one rank; 0: twice data.batch_size")
    resolution: int = option(224, "side of a training view in pixels")
    start_resolution: int = option(
        0, "side of a training view in pixels at the start, raised to data.resolution over data.ramp; 0: no ramp"
    )
    ramp: Pair = option((0.0, 1.0), "start and end of the rise of the resolution, as fractions of training")
    eval_resolution: int = option(0, "side of an evaluation view in pixels; 0: data.resolution, in eval the checkpoint's")
    eval_crop_ratio: float = option(
        0.0,
        "side of the evaluation crop over the shorter side of the resized image, up to 1; 0: 0.875, in eval the checkpoint's",
    )
    interpolation: Literal["bicubic", "bilinear", "lanczos", "box", "hamming"] = option(
        "bicubic", "resampling filter, as Pillow computes it, antialiased; turning and shearing use it where it is bilinear"
    )
    dct_scaling: bool = option(
        False, "decode JPEGs at 1/2, 1/4 or 1/8 where a crop stays larger than the view: faster, other pixels than Pillow's"
    )
    dtype: Literal["float32", "float16", "bfloat16", "uint8"] = option(
        "float32",
        "type of the images in a batch; uint8: grey levels, neither normalised nor erased nor mixed",
    )
    subset: int = option(0, "train on so many images only, from each class its share, chosen by train.seed; 0: all")
    order: Literal["random", "pages"] = option(
        "random",
        "order of a training epoch: random; or pages, for betons larger than memory: from a window that moves over the file",
    )
    window_gb: float = option(4.0, "part of the beton that data.order=pages holds in a node's memory, in units of 1e9 bytes")
    on_error: Literal["fail", "replace"] = option(
        "fail", "what a training image that does not decode does: end the run (fail), or be replaced by the next and counted"
    )
    num_workers: int = option(0, "threads that prepare batches on one rank; 0: this rank's share of the cores")
    batches_ahead: int = option(3, "batches prepared ahead of the trainer")


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a training view."""

    repeats: int = option(3, "views of one image in a global batch (repeated augmentation); 1: off")
    crop_scale: Pair = option((0.08, 1.0), "range of the area of a random crop, as a share of the image's")
    crop_ratio: Pair = option((3 / 4, 4 / 3), "range of the aspect ratio of a random crop, width over height")
    crop: Literal["random", "simple"] = option(
        "random",
        "random: a box of random area and aspect ratio, resized (timm's RandomResizedCrop); simple: the shorter side resized, "
        "then a random square of it, padded by 4 pixels (DeiT III)",
    )
    flip: float = option(0.5, "probability of a horizontal flip")
    auto_augment: str = option(
        "rand-m9-mstd0.5-inc1",
        "policy as timm writes it: rand-..., original..., v0..., or 3a for DeiT III's 3-Augment; empty: none",
    )
    color_jitter: float = option(
        0.0, "range of the factors of brightness, contrast and saturation around 1, after the policy; 0: none"
    )
    erase: float = option(0.25, "probability that a box of a view is erased")
    erase_mode: Literal["pixel", "rand", "const"] = option(
        "pixel", "what is put there: normal noise for each value (pixel) or each channel (rand), or zero, the mean (const)"
    )
    mixup: float = option(0.8, "alpha of Mixup's Beta(alpha, alpha); 0: no Mixup")
    cutmix: float = option(1.0, "alpha of CutMix's Beta(alpha, alpha); 0: no CutMix")
    cutmix_minmax: Pair = option(
        (0.0, 0.0), "smallest and largest side of CutMix's box, as shares of the view's, instead of a Beta's; 0, 0: off"
    )
    mix_mode: Literal["batch", "pair", "elem"] = option(
        "batch", "what shares one lambda: the batch, two views that are each other's partners (pair), or nothing (elem)"
    )
    mix_probability: float = option(1.0, "probability that a batch is mixed at all")
    cutmix_probability: float = option(0.5, "probability that a mixed batch gets CutMix, where both are on")
    label_smoothing: float = option(0.1, "label smoothing: this much of each target is spread evenly over all classes")
    mean: Triple = option((0.485, 0.456, 0.406), "mean of each channel, red green blue, in units of 255 grey levels")
    std: Triple = option((0.229, 0.224, 0.225), "standard deviation of each channel, in units of 255 grey levels")


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
        (), "loader: what to measure, of stages, threads, recipe3, recipe1, crop, raw and evaluation; empty: all"
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


# (section.option, what is wanted, test): ranges of single options, checked for every command that uses the section
_RANGES: tuple[tuple[str, str, Any], ...] = (
    ("source.subset", ">= 0", lambda v: v >= 0),
    ("source.seed", "0 to 2**63 - 1", lambda v: 0 <= v < 2**63),
    ("write.jpeg_share", "0 to 1", lambda v: 0 <= v <= 1),
    ("write.smart_share", "above 0", lambda v: v > 0),
    ("write.jpeg_quality", "1 to 100", lambda v: 1 <= v <= 100),
    ("write.max_resolution", ">= 0", lambda v: v >= 0),
    ("write.num_workers", ">= 0", lambda v: v >= 0),
    ("write.seed", "0 to 2**63 - 1", lambda v: 0 <= v < 2**63),
    ("verify.num_workers", ">= 0", lambda v: v >= 0),
    ("data.batch_size", ">= 1", lambda v: v >= 1),
    ("data.eval_batch_size", ">= 0", lambda v: v >= 0),
    ("data.resolution", "1 to 4096", lambda v: 1 <= v <= 4096),
    ("data.start_resolution", "0 to 4096", lambda v: 0 <= v <= 4096),
    ("data.ramp", "0 <= start < end <= 1", lambda v: 0 <= v[0] < v[1] <= 1),
    ("data.eval_resolution", "0 to 4096", lambda v: 0 <= v <= 4096),
    ("data.eval_crop_ratio", "0 to 1", lambda v: 0 <= v <= 1),
    ("data.subset", ">= 0", lambda v: v >= 0),
    ("data.window_gb", "above 0", lambda v: v > 0),
    ("data.num_workers", ">= 0", lambda v: v >= 0),
    ("data.batches_ahead", ">= 1", lambda v: v >= 1),
    ("augment.repeats", "1 to 255", lambda v: 1 <= v <= 255),
    ("augment.crop_scale", "0 < low <= high <= 1", lambda v: 0 < v[0] <= v[1] <= 1),
    ("augment.crop_ratio", "0 < low <= high", lambda v: 0 < v[0] <= v[1]),
    ("augment.flip", "0 to 1", lambda v: 0 <= v <= 1),
    ("augment.color_jitter", ">= 0", lambda v: v >= 0),
    ("augment.erase", "0 to 1", lambda v: 0 <= v <= 1),
    ("augment.cutmix_minmax", "0 <= low <= high < 1", lambda v: 0 <= v[0] <= v[1] < 1),
    ("augment.mixup", ">= 0", lambda v: v >= 0),
    ("augment.cutmix", ">= 0", lambda v: v >= 0),
    ("augment.mix_probability", "0 to 1", lambda v: 0 <= v <= 1),
    ("augment.cutmix_probability", "0 to 1", lambda v: 0 <= v <= 1),
    ("augment.label_smoothing", "0 up to, not including, 1", lambda v: 0 <= v < 1),
    ("augment.std", "each above 0", lambda v: all(x > 0 for x in v)),
    ("model.drop_path", "0 up to, not including, 1", lambda v: 0 <= v < 1),
    ("optim.lr", "above 0", lambda v: v > 0),
    ("optim.lr_batch_size", ">= 0", lambda v: v >= 0),
    ("optim.weight_decay", ">= 0", lambda v: v >= 0),
    ("optim.betas", "each 0 up to, not including, 1", lambda v: all(0 <= x < 1 for x in v)),
    ("optim.eps", "above 0", lambda v: v > 0),
    ("optim.momentum", "0 up to, not including, 1", lambda v: 0 <= v < 1),
    ("schedule.warmup_epochs", ">= 0", lambda v: v >= 0),
    ("schedule.warmup_lr", ">= 0", lambda v: v >= 0),
    ("schedule.min_lr", ">= 0", lambda v: v >= 0),
    ("train.epochs", "1 to 65535", lambda v: 1 <= v <= 65535),
    ("train.seed", "0 to 2**63 - 1", lambda v: 0 <= v < 2**63),
    ("train.ema_decay", "0 up to, not including, 1", lambda v: 0 <= v < 1),
    ("train.log_every", ">= 1", lambda v: v >= 1),
    ("train.eval_every", ">= 1", lambda v: v >= 1),
    ("bench.steps", ">= 1", lambda v: v >= 1),
    ("bench.rounds", ">= 1", lambda v: v >= 1),
    ("bench.seconds", "above 0", lambda v: v > 0),
    ("bench.threads", ">= 0", lambda v: v >= 0),
    ("bench.images", ">= 0", lambda v: v >= 0),
)


def check_ranges(config: RunConfig, is_used: Callable[[str], bool] = lambda path: True) -> None:
    """Raises UserError for the first option `section.name` that is_used and outside its range: what, got, wanted."""
    for path, wanted, is_valid in _RANGES:
        if not is_used(path):
            continue
        section, name = path.split(".")
        value = getattr(getattr(config, section), name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers) or not is_valid(value):
            raise UserError(f"{path}={value}: want {wanted}")


def check_training(config: RunConfig, world_size: int) -> None:
    """Raises UserError where the sections of a training run do not fit each other on world_size ranks."""
    data, augment = config.data, config.augment
    for name in ("train", "val"):
        if not getattr(data, name):
            raise UserError(f"data.{name} is not set: want the path of a beton, made by `deit-fast write`")
    if config.train.resume and not config.run.dir:
        raise UserError("train.resume: run.dir is not set: want the folder of the run to go on with")
    if is_mixing(augment) and augment.mix_mode == "pair" and data.batch_size % 2:
        raise UserError(
            f"data.batch_size={data.batch_size}: augment.mix_mode=pair wants an even batch on each of the {world_size} "
            "rank(s), else one view would not be mixed; choose an even number, or another mode"
        )
    if data.dtype == "uint8":
        raise UserError("data.dtype=uint8: is for other trainers; want float32, float16 or bfloat16")
    if data.start_resolution > data.resolution:
        raise UserError(
            f"data.start_resolution={data.start_resolution}: want 0 to data.resolution={data.resolution} (0: no ramp)"
        )
    warmup_epochs = config.schedule.warmup_epochs
    if warmup_epochs >= config.train.epochs:
        raise UserError(f"schedule.warmup_epochs={warmup_epochs:g}: want fewer than train.epochs={config.train.epochs}")


def is_mixing(augment: AugmentConfig) -> bool:
    """Whether any batch can come out mixed."""
    cuts = augment.cutmix > 0 or augment.cutmix_minmax != (0.0, 0.0)
    return augment.mix_probability > 0 and (augment.mixup > 0 or cuts)


def eval_batch_size(data: DataConfig) -> int:
    """Images in an evaluation batch of one rank."""
    return data.eval_batch_size or 2 * data.batch_size


def eval_resolution(data: DataConfig) -> int:
    """Side of an evaluation view in pixels."""
    return data.eval_resolution or data.resolution


def eval_crop_ratio(data: DataConfig) -> float:
    """Side of the evaluation crop over the shorter side of the resized image."""
    return data.eval_crop_ratio or 0.875
