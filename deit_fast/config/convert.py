"""Sections about making betons from images, and looking at them."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deit_fast.config.options import (
    ABOVE_0,
    AT_LEAST_1,
    SEED,
    SHARE,
    Decides,
    Options,
    Within,
    option,
    path_option,
)

SourceKind = Literal[
    "folder", "tars", "imagenet", "parquet", "webdataset", "cifar10", "cifar100", "flowers102", "cars", "inat2018", "inat2019"
]


@dataclass(frozen=True)
class SourceConfig(Options):
    """Source of the images and labels to convert."""

    DECIDES = Decides.NOTHING

    path: str = path_option("", "folder, archive or shards to convert, in the layout that source.kind says")
    kind: SourceKind = option(
        "folder",
        "layout: folder (one folder for each class), tars (one tar for each class, in a folder or in one tar), imagenet (the "
        "ILSVRC2012 archives, or Kaggle's folders), parquet and webdataset (shards), or a data set as it is distributed",
    )
    split: Literal["auto", "train", "val", "test", "trainval"] = option(
        "auto", "which part of a source that has several; auto: train, or all of it where it has no parts"
    )
    classes: str = path_option(
        "",
        "text file with one class name a line, in the order of the labels, or a folder of class folders or tars; a source with "
        "class names is put in this order, and one that shares none of them gets these names; a class may have no images; "
        "auto: the source's own",
        unset="auto",
    )
    image_column: str = option(
        "", "column of a Parquet source that holds images; auto: found by its name or type", unset="auto"
    )
    label_column: str = option(
        "", "column of a Parquet source that holds labels; auto: found by its name or type", unset="auto"
    )
    subset: int | None = option(
        None, "number of images to take, in proportion from each class, for trials", unset="all", within=AT_LEAST_1
    )
    seed: int = option(0, "seed that chooses the images of source.subset", within=SEED)


@dataclass(frozen=True)
class WriteConfig(Options):
    """Conversion of a source into a beton."""

    DECIDES = Decides.NOTHING

    out: str = path_option("", "beton to write; its manifest goes beside it as OUT.json")
    mode: Literal["jpg", "raw", "proportion", "smart"] = option(
        "jpg",
        "how images are stored: jpg (JPEG); raw (uint8 pixels); proportion (write.jpeg_share of them as JPEG, the others raw); "
        "smart (JPEG if it is smaller than write.smart_share of the raw pixels, else raw)",
    )
    jpeg_share: float = option(0.5, "write.mode=proportion: share of images stored as JPEG", within=SHARE)
    smart_share: float = option(
        0.5, "write.mode=smart: store a JPEG if it is smaller than this share of the raw pixels' bytes", within=ABOVE_0
    )
    jpeg_quality: int = option(
        90,
        "quality of JPEGs that are encoded anew; JPEGs that need no change keep theirs",
        within=Within("1 to 100", lambda v: 1 <= v <= 100),
    )
    subsampling: Literal["4:2:0", "4:2:2", "4:4:4"] = option("4:2:0", "chroma subsampling of JPEGs that are encoded anew")
    optimize: bool = option(False, "optimise the Huffman tables of each JPEG: smaller files, slower conversion")
    max_resolution: int | None = option(
        None,
        "scale images down until the side write.resize_side has at most this many pixels; unlimited: never",
        unset="unlimited",
        within=AT_LEAST_1,
    )
    max_megapixels: float = option(
        178.95697,
        "largest image to read, in millions of pixels; a larger one is a bad file (write.on_error); default: Pillow's limit",
        within=ABOVE_0,
    )
    resize_side: Literal["longest", "shortest"] = option("longest", "the side that write.max_resolution limits")
    interpolation: Literal["bicubic", "bilinear", "lanczos", "hamming", "box"] = option(
        "bicubic", "filter for scaling down; antialiased, as in Pillow"
    )
    exif_orientation: Literal["ignore", "apply"] = option(
        "ignore", "apply: rotate or mirror images as their EXIF orientation says; ignore: do not, like torchvision and timm"
    )
    on_error: Literal["fail", "skip"] = option(
        "fail", "at a bad file: end the conversion (fail), or leave it out and name it in the manifest (skip)"
    )
    num_workers: int | None = option(None, "processes that convert; auto: one for each core", unset="auto", within=AT_LEAST_1)
    seed: int = option(0, "write.mode=proportion: seed that chooses the images stored as JPEG", within=SEED)
    shards: int | None = option(
        None,
        "split the beton into so many shards, OUT-00000-of-00016.beton and so on, which load as one: data.train='OUT-*.beton'",
        unset="off",
        within=Within("1 to 99999", lambda v: 1 <= v <= 99999),
    )
    shard_gb: float | None = option(
        None,
        "split the beton into shards of about this size in units of 1e9 bytes, by an estimate from 256 images",
        unset="off",
        within=ABOVE_0,
    )
    only: str = option(
        "",
        "write one shard, as NUMBER/SHARDS: 0/16 to 15/16, as in the names of the files; several machines may write one each",
        unset="all",
    )
    resume: bool = option(False, "continue an interrupted conversion from its finished parts; the source must be unchanged")


@dataclass(frozen=True)
class InspectConfig(Options):
    """What is in a beton."""

    DECIDES = Decides.NOTHING

    beton: str = path_option("", "beton to describe, or several as in data.train")


@dataclass(frozen=True)
class VerifyConfig(Options):
    """Check of a beton."""

    DECIDES = Decides.NOTHING

    beton: str = path_option("", "beton to check, or several as in data.train")
    against: str = path_option("", "source to compare the images with, read with the settings in the manifest", unset="off")
    num_workers: int | None = option(None, "processes that check; auto: one for each core", unset="auto", within=AT_LEAST_1)
