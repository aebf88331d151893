"""Takes the description of a source, gives it opened: images and labels from whatever people keep data sets in."""

from __future__ import annotations

from pathlib import Path

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.sources.base import Source, Subset, stratified


def open_source(config: SourceConfig) -> Source:
    """Opens what config describes, with the subset that it asks for.

    Raises UserError where the path is missing or not in the layout of config.kind, and for a subset larger than the set.
    """
    if not config.path:
        raise UserError("source.path is not set: want a folder, archive or shards of images; see source.kind")
    if config.classes and config.kind not in ("parquet", "webdataset"):
        raise UserError(f"source.classes={config.classes}: source.kind={config.kind} has class names of its own; leave it out")
    if config.split not in ("train", "val", "test") and config.kind != "flowers102":
        raise UserError(f"source.split={config.split}: source.kind={config.kind} has no such split: want train, val or test")
    source = _open(config)
    if config.subset == 0:
        return source
    if config.subset > source.num_samples:
        raise UserError(f"source.subset={config.subset}: want at most {source.num_samples}, the images of {config.path}")
    return Subset(source, stratified(source.labels, len(source.classes), config.subset, config.seed))


def _open(config: SourceConfig) -> Source:
    """The whole source. The imports stand here so that pyarrow and SciPy are loaded only for what needs them."""
    path = Path(config.path)
    match config.kind:
        case "folder":
            from deit_fast.data.sources.folder import ImageFolder

            return ImageFolder(path)
        case "imagenet":
            from deit_fast.data.sources.imagenet import open_imagenet

            return open_imagenet(path, config.split)
        case "parquet":
            from deit_fast.data.sources.parquet import Parquet

            return Parquet(config.path, config.split, config.classes)
        case "webdataset":
            from deit_fast.data.sources.webdataset import WebDataset

            return WebDataset(config.path, config.split, config.classes)
        case "cifar10" | "cifar100":
            from deit_fast.data.sources.cifar import Cifar

            return Cifar(path, config.kind, config.split)
        case "flowers102":
            from deit_fast.data.sources.transfer import open_flowers102

            return open_flowers102(path, config.split)
        case "cars":
            from deit_fast.data.sources.transfer import open_cars

            return open_cars(path, config.split)
        case "inat2018" | "inat2019":
            from deit_fast.data.sources.transfer import open_inaturalist

            return open_inaturalist(path, int(config.kind.removeprefix("inat")), config.split)
    raise AssertionError(config.kind)
