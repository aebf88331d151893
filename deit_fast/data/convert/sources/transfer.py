"""Reads Flowers-102, Stanford Cars and iNaturalist, as distributed, as sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from deit_fast.config import UserError
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.sources.files import Files, LabelledFiles, open_first
from deit_fast.data.convert.sources.matlab import matlab_field, matlab_variable

# the official splits, and the training set of the DeiT paper
FLOWERS_SPLITS = {"train": ("trnid",), "val": ("valid",), "test": ("tstid",), "trainval": ("trnid", "valid")}
NUM_FLOWERS = 102


def open_flowers102(root: Path, split: str, scratch: Path | None = None) -> Source:
    """The images of one official split, train, val or test, or of trainval, in the order of setid.mat.

    root: the folder with imagelabels.mat, setid.mat, and jpg/ or 102flowers.tgz; or the folder above it, if it has
    torchvision's name, flowers-102. Class names are torchvision's. Raises UserError if a file is missing or damaged.
    """
    from torchvision.datasets import Flowers102

    if not (root / "setid.mat").exists() and (root / "flowers-102").is_dir():
        root = root / "flowers-102"
    labels = matlab_variable(_read(root / "imagelabels.mat"), str(root / "imagelabels.mat"), "labels")
    setid = root / "setid.mat"
    ids = np.concatenate([matlab_variable(_read(setid), str(setid), name) for name in FLOWERS_SPLITS[split]]).astype(np.int64)
    outside = ids[(ids < 1) | (ids > len(labels))]
    if len(outside):
        raise UserError(f"{setid}: names image {outside[0]}, and imagelabels.mat has {len(labels)} labels; fetch both again")
    files = _images(root, ("jpg", "102flowers.tgz", "102flowers.tar"), scratch)
    names = [f"jpg/image_{number:05d}.jpg" for number in ids]
    return LabelledFiles(root, files, names, [int(labels[number - 1]) - 1 for number in ids], Flowers102.classes[:NUM_FLOWERS])


def open_cars(root: Path, split: str, scratch: Path | None = None) -> Source:
    """The images of train or test (val is test) in the order of the annotations.

    root: the folder with cars_train/ and cars_test/ or cars_train.tgz and cars_test.tgz, devkit/ or car_devkit.tgz,
    and cars_test_annos_withlabels.mat beside or in devkit/; or the folder above it, if it has torchvision's name,
    stanford_cars. Raises UserError if a file is missing or damaged.
    """
    if (root / "stanford_cars").is_dir():
        root = root / "stanford_cars"
    part = "train" if split == "train" else "test"
    devkit = open_first([root / "devkit", root / "car_devkit.tgz"], scratch)
    if devkit is None:
        raise UserError(f"{root / 'devkit'}: no such folder; want it, or car_devkit.tgz, beside the images")
    try:
        names = matlab_variable(devkit.read_named("cars_meta.mat"), f"{devkit.location}: cars_meta.mat", "class_names")
        annotations = "cars_train_annos.mat" if part == "train" else "cars_test_annos_withlabels.mat"
        beside = root / annotations
        content = _read(beside) if beside.exists() else devkit.read_named(annotations)
    finally:
        devkit.close()
    records = matlab_variable(content, annotations, "annotations")
    labels = [int(number) - 1 for number in matlab_field(records, f"{root}: {annotations}", "class")]
    files = _images(root, (f"cars_{part}", f"cars_{part}.tgz", f"cars_{part}.tar"), scratch)
    images = [f"cars_{part}/{name}" for name in matlab_field(records, f"{root}: {annotations}", "fname")]
    return LabelledFiles(root, files, images, labels, [str(name) for name in names])


def open_inaturalist(root: Path, year: int, split: str, scratch: Path | None = None) -> Source:
    """The images of train or val in the order of the annotations file; classes are the categories in the order of their IDs.

    root: the folder with train{year}.json and val{year}.json (or each as .json.tar.gz), and train_val{year}/ or
    train_val{year}.tar.gz, which is unpacked to scratch and takes as much space again there. Raises UserError for another
    split, and if a file is missing or damaged.
    """
    if split not in ("train", "val"):
        raise UserError(f"source.split={split}: iNaturalist {year} has no labels for it: want train or val")
    file = root / f"{split}{year}.json"
    packed = file.with_name(f"{file.name}.tar.gz")
    if not file.exists() and packed.exists():
        archive = open_first([packed], scratch)
        assert archive is not None
        content = archive.read_named(file.name)
        archive.close()
    else:
        content = _read(file)
    names, labels, classes = _inaturalist_lists(content, str(file))
    folder = f"train_val{year}"
    files = _images(root, (folder, f"{folder}.tar.gz", f"{folder}.tar"), scratch)
    return LabelledFiles(root, files, names, labels, classes)


def _inaturalist_lists(content: bytes, location: str) -> tuple[list[str], list[int], list[str]]:
    """Names of the images, their labels, and the class names."""
    try:
        document: dict[str, Any] = json.loads(content)
        category_of = {annotation["image_id"]: annotation["category_id"] for annotation in document["annotations"]}
        categories = sorted(document["categories"], key=lambda category: category["id"])
        label_of = {category["id"]: label for label, category in enumerate(categories)}
        classes = [str(category.get("name", category["id"])) for category in categories]
        images = [(image["id"], str(image["file_name"])) for image in document["images"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{location}: not an annotations file of iNaturalist, or damaged: {what}; fetch it again") from error
    labels = []
    for number, name in images:
        if number not in category_of:
            raise UserError(f"{location}: image {name!r} has no annotation; fetch it again")
        if category_of[number] not in label_of:
            raise UserError(f"{location}: image {name!r} is in category {category_of[number]}, which is not in the list")
        labels.append(label_of[category_of[number]])
    return [name for _, name in images], labels, classes


def _images(root: Path, candidates: tuple[str, ...], scratch: Path | None = None) -> Files:
    files = open_first([root / name for name in candidates], scratch)
    if files is None:
        raise UserError(f"{root}: has no images: want {candidates[0]}/ or {' or '.join(candidates[1:])} in it")
    return files


def _read(path: Path) -> bytes:
    """Raises UserError if the file is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; want it as it is distributed") from error
