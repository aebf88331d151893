"""Sections about data in training: loading and augmentation."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deit_fast.config.options import (
    ALPHA,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    SEED,
    SHARE,
    SIDE,
    Decides,
    Options,
    Pair,
    Triple,
    Within,
    option,
    path_option,
)


@dataclass(frozen=True)
class DataConfig(Options):
    """Where images come from and how they are loaded."""

    train: str = path_option(
        "",
        "beton of the training set; or several, which become one set: a.beton,b.beton, or a pattern ('shards/*.beton', sorted "
        "by name); a.beton*2 shows its images twice an epoch; addresses (https://, s3:// ...) are copied to data.cache_dir",
        decides=Decides.TIME,
    )
    val: str = path_option("", "beton, betons or pattern of the validation set", decides=Decides.TIME)
    cache_dir: str = path_option(
        "",
        "folder for copies of betons that data.train and data.val name by addresses (https://, s3://, gs:// ...); auto: "
        "deit_fast/betons in the user's cache, ~/.cache",
        unset="auto",
        decides=Decides.NOTHING,
    )
    batch_size: int = option(128, "views in a training batch of one rank", within=AT_LEAST_1, decides=Decides.TIME)
    eval_batch_size: int | None = option(
        None,
        "images in an evaluation batch of one rank; auto: twice data.batch_size",
        unset="auto",
        within=AT_LEAST_1,
        decides=Decides.TIME,
    )
    resolution: int = option(224, "side of a training view in pixels", within=SIDE)
    start_resolution: int | None = option(
        None,
        "side of a training view in pixels at the start; it rises to data.resolution over data.ramp; off: no ramp",
        unset="off",
        within=SIDE,
    )
    ramp: Pair = option(
        (0.0, 1.0),
        "start and end of the resolution ramp, as fractions of training",
        within=Within("0 <= start < end <= 1", lambda v: 0 <= v[0] < v[1] <= 1),
    )
    shrink: Literal["resample", "frequency"] = option(
        "resample",
        "how training views smaller than data.resolution come about: made at their side by the loader (resample); or made at "
        "data.resolution, mixed, and cropped to their lowest frequencies on the device (frequency, EfficientTrain)",
    )
    eval_resolution: int | None = option(
        None,
        "side of an evaluation view in pixels; auto: data.resolution (in `eval`: the checkpoint's)",
        unset="auto",
        within=SIDE,
    )
    eval_crop_ratio: float | None = option(
        None,
        "side of the evaluation crop over the shorter side of the resized image; auto: 0.875 (in `eval`: the checkpoint's)",
        unset="auto",
        within=Within("0.1 to 1", lambda v: 0.1 <= v <= 1),
    )
    interpolation: Literal["bicubic", "bilinear", "lanczos", "box", "hamming"] = option(
        "bicubic",
        "resampling filter, antialiased, as in Pillow; rotations and shears are bilinear if this is, else bicubic",
    )
    dct_scaling: bool = option(
        False, "decode a JPEG at 1/2, 1/4 or 1/8 if the crop stays larger than the view; faster, but not Pillow's pixels"
    )
    dtype: Literal["float32", "float16", "bfloat16", "uint8"] = option(
        "float32",
        "dtype of the images in a batch; uint8: grey levels, not normalised, erased or mixed",
    )
    subset: int | None = option(
        None,
        "number of images to train on, in proportion from each class, chosen by data.seed",
        unset="all",
        within=AT_LEAST_1,
    )
    seed: int | None = option(
        None,
        "seed of order, views and mixing; set it to train with several train.seed on the same views, to which the labels of "
        "deit-fast teach belong; auto: train.seed",
        unset="auto",
        within=SEED,
        decides=Decides.WEIGHTS,
    )
    order: Literal["random", "pages"] = option(
        "random",
        "order of a training epoch: random; or pages, for betons larger than memory: random within a window that moves over "
        "the file",
    )
    window_gb: float = option(
        4.0,
        "data.order=pages: size of the window that a node holds in memory, in units of 1e9 bytes",
        within=Within("above 0, up to 1e6", lambda v: 0 < v <= 1e6),
    )
    decode: Literal["cpu", "gpu", "auto"] = option(
        "cpu",
        "where images are decoded, and evaluation views finished: cpu; gpu (the same pixels; training needs augment.device=gpu "
        "too); auto: the faster, measured at the start of training, and in `eval` the GPU if this machine can",
        decides=Decides.TIME,
    )
    on_error: Literal["fail", "replace"] = option(
        "fail",
        "at a training image that does not decode: end the run (fail), or use the next image and count it (replace)",
        decides=Decides.TIME,
    )
    num_workers: int | None = option(
        None,
        "threads that prepare batches on one rank; auto: this rank's share of the cores",
        unset="auto",
        within=AT_LEAST_1,
        decides=Decides.TIME,
    )
    batches_ahead: int = option(
        3, "batches prepared ahead of the trainer", within=Within("1 to 1000", lambda v: 1 <= v <= 1000), decides=Decides.TIME
    )


@dataclass(frozen=True)
class AugmentConfig(Options):
    """What happens to a training view."""

    device: Literal["cpu", "gpu", "auto"] = option(
        "cpu",
        "where training views are augmented, normalised and mixed, by the same definitions: cpu; gpu (needs numba-cuda); auto: "
        "the faster, measured at the start of training",
        decides=Decides.TIME,
    )
    repeats: int = option(
        3,
        "views of each image in a global batch (repeated augmentation); views of one image are never mixed with each "
        "other if a rank's batch has at least twice as many views",
        within=Within("1 to 255", lambda v: 1 <= v <= 255),
    )
    crop_scale: Pair = option(
        (0.08, 1.0),
        "range of the area of a random crop, as a share of the image's area",
        within=Within("0 < low <= high <= 1", lambda v: 0 < v[0] <= v[1] <= 1),
    )
    crop_ratio: Pair = option(
        (3 / 4, 4 / 3),
        "range of the aspect ratio of a random crop, width over height",
        within=Within("0 < low <= high", lambda v: 0 < v[0] <= v[1]),
    )
    crop: Literal["random", "simple", "centre"] = option(
        "random",
        "random: a box of random area and aspect ratio, resized (timm's RandomResizedCrop); simple: the shorter side resized, "
        "then a random square of it, padded by 4 pixels (DeiT III); centre: the same crop as in evaluation (FixRes)",
    )
    flip: float = option(0.5, "probability of a horizontal flip", within=SHARE)
    auto_augment: str = option(
        "rand-m9-mstd0.5-inc1",
        "policy in timm's notation: rand-..., original..., v0..., or 3a for DeiT III's 3-Augment",
        unset="off",
    )
    color_jitter: float = option(
        0.0,
        "after the policy, scale brightness, contrast and saturation by random factors within this distance of 1",
        within=AT_LEAST_0,
    )
    erase: float = option(0.25, "probability that a box of a view is erased (random erasing)", within=SHARE)
    erase_mode: Literal["pixel", "rand", "const"] = option(
        "pixel",
        "fill of the erased box: normal noise for each value (pixel) or each channel (rand), or 0, the mean (const)",
    )
    mixup: float | None = option(0.8, "alpha of Mixup's Beta(alpha, alpha)", unset="off", within=ALPHA)
    cutmix: float | None = option(1.0, "alpha of CutMix's Beta(alpha, alpha)", unset="off", within=ALPHA)
    cutmix_minmax: Pair | None = option(
        None,
        "range of the sides of CutMix's box, as shares of the view's, drawn uniformly instead of by a Beta",
        unset="off",
        within=Within("0 <= low <= high < 1 and high above 0", lambda v: 0 <= v[0] <= v[1] < 1 and v[1] > 0),
    )
    mix_mode: Literal["batch", "pair", "elem"] = option(
        "batch",
        "one lambda for the whole batch (batch), for each pair of views that mix with each other (pair), or for each view",
    )
    mix_probability: float = option(1.0, "probability that a batch is mixed at all", within=SHARE)
    cutmix_probability: float = option(
        0.5, "probability that a mixed batch gets CutMix rather than Mixup, if both are on", within=SHARE
    )
    label_smoothing: float = option(
        0.1,
        "label smoothing: this share of each target is spread evenly over all classes",
        within=BELOW_1,
        decides=Decides.WEIGHTS,
    )
    mean: Triple = option((0.485, 0.456, 0.406), "mean of each channel, red green blue, in units of 255 grey levels")
    std: Triple = option(
        (0.229, 0.224, 0.225),
        "standard deviation of each channel, in units of 255 grey levels",
        within=Within("each >= 0.001", lambda v: all(x >= 0.001 for x in v)),
    )


def is_mixing(augment: AugmentConfig) -> bool:
    """Whether any batch can come out mixed."""
    kinds = augment.mixup, augment.cutmix, augment.cutmix_minmax
    return augment.mix_probability > 0 and any(kind is not None for kind in kinds)


def eval_augment(augment: AugmentConfig, device: Literal["cpu", "gpu"]) -> AugmentConfig:
    """What happens to an evaluation view, on a device: it is normalised as in training, and nothing else."""
    return AugmentConfig(
        device=device,
        repeats=1,
        flip=0.0,
        auto_augment="",
        color_jitter=0.0,
        erase=0.0,
        mixup=None,
        cutmix=None,
        mix_probability=0.0,
        label_smoothing=0.0,
        mean=augment.mean,
        std=augment.std,
    )


def eval_batch_size(data: DataConfig) -> int:
    """Images in an evaluation batch of one rank."""
    return data.eval_batch_size or 2 * data.batch_size


def eval_resolution(data: DataConfig) -> int:
    """Side of an evaluation view in pixels."""
    return data.eval_resolution or data.resolution


def eval_crop_ratio(data: DataConfig) -> float:
    """Side of the evaluation crop over the shorter side of the resized image."""
    return data.eval_crop_ratio or 0.875
