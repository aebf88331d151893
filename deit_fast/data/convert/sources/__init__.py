"""Opens a source: images and labels from any of the usual formats of data sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources.base import Renamed, Source, at_most
from deit_fast.data.convert.sources.class_names import read_class_names

SHARDS = ("parquet", "webdataset")


def open_source(config: SourceConfig) -> Source:
    """Opens the source that config describes, with the subset that it asks for.

    Raises UserError if the path is missing or not in the layout of config.kind, or if the subset is larger than the set.
    """
    if not config.path:
        raise UserError("source.path is not set: want a folder, archive or shards of images; see source.kind")
    _refuse_unused(config)
    source = _open(config)
    if config.classes and config.kind not in SHARDS:  # shards look up their labels themselves
        source = Renamed(source, read_class_names(Path(config.classes)), config.classes)
    if config.subset is not None and config.subset > source.num_samples:
        raise UserError(f"source.subset={config.subset}: want at most {source.num_samples}, the images of {config.path}")
    return at_most(source, config.subset, config.seed)


def without_unused(config: SourceConfig) -> SourceConfig:
    """The configuration with options that this kind of source does not use set to their defaults."""
    unused: dict[str, Any] = {name: getattr(SourceConfig(), name) for name, _ in _unused(config)}
    return dataclasses.replace(config, **unused)


def _unused(config: SourceConfig) -> list[tuple[str, str]]:
    """Options that are set although this kind of source does not use them, each with its remedy."""
    unused = []
    if config.split != "auto" and config.kind in ("folder", "tars"):
        unused.append(("split", f"give the folder of the split as source.path, such as {Path(config.path) / config.split}"))
    if config.split == "trainval" and config.kind != "flowers102":
        unused.append(("split", "want train, val or test"))
    for name in ("image_column", "label_column"):
        if getattr(config, name) and config.kind != "parquet":
            unused.append((name, "leave it out"))
    return unused


def _refuse_unused(config: SourceConfig) -> None:
    for name, remedy in _unused(config):
        value = getattr(config, name)
        raise UserError(f"source.{name}={value}: source.kind={config.kind} does not use it; {remedy}")


def _open(config: SourceConfig) -> Source:
    """The whole source. The imports are here so that pyarrow and SciPy load only for sources that need them."""
    path, split = Path(config.path), "train" if config.split == "auto" else config.split
    match config.kind:
        case "folder":
            from deit_fast.data.convert.sources.folder import ImageFolder

            return ImageFolder(path)
        case "imagenet":
            from deit_fast.data.convert.sources.imagenet import open_imagenet

            return open_imagenet(path, split)
        case "tars":
            from deit_fast.data.convert.sources.class_tars import ClassTars

            return ClassTars(path)
        case "parquet":
            from deit_fast.data.convert.sources.parquet import Parquet

            return Parquet(config.path, config.split, config.classes, config.image_column, config.label_column)
        case "webdataset":
            from deit_fast.data.convert.sources.webdataset import WebDataset

            return WebDataset(config.path, config.split, config.classes)
        case "cifar10" | "cifar100":
            from deit_fast.data.convert.sources.cifar import Cifar

            return Cifar(path, config.kind, split)
        case "flowers102":
            from deit_fast.data.convert.sources.transfer import open_flowers102

            return open_flowers102(path, split)
        case "cars":
            from deit_fast.data.convert.sources.transfer import open_cars

            return open_cars(path, split)
        case "inat2018" | "inat2019":
            from deit_fast.data.convert.sources.transfer import open_inaturalist

            return open_inaturalist(path, int(config.kind.removeprefix("inat")), split)
    raise AssertionError(config.kind)
