"""NVIDIA DALI's operators for the CPU, for comparison; DALI is no dependency."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from deit_fast.benchmarks.rivals.common import NotInstalled, Setting, System, Work, sample_order
from deit_fast.config import AugmentConfig

_QUEUE_DEPTH = 2  # batches ahead, DALI's default
_NUM_VIEWS = 1_000_000  # in the list of files that it reads, again and again
_MAGNITUDE, _MAX_MAGNITUDE = 9, 10
_FILL = 128  # a single grey level is all that its operators take


def check_installed() -> None:
    """Raises NotInstalled where DALI, or something that it wants, cannot be imported."""
    _import_dali()


def open_dali(work: Work, setting: Setting) -> System:
    """A pipeline without a device and with one thread for each core.

    Raises NotInstalled where DALI is missing. Random erasing with noise, Mixup and CutMix are left out of the recipe, which
    DALI has no operators for: what it does is less than the others do.
    """
    dali = _import_dali()
    paths = sorted(path for path in setting.files.folder.rglob("*") if path.is_file())
    folders = sorted({path.parent for path in paths})
    labels = [folders.index(path.parent) for path in paths]
    num_views = min(_NUM_VIEWS, 100 * len(paths))
    order = sample_order(len(paths), work.repeats, setting.seed, num_views)
    files = ([str(paths[sample]) for sample in order], [labels[sample] for sample in order])
    define = _recipe if work.kind == "recipe" else _crop
    with _quiet():
        pipeline = dali.pipeline_def(
            define,
            batch_size=setting.batch_size,
            num_threads=setting.num_cores,
            device_id=None,
            seed=setting.seed,
            prefetch_queue_depth=_QUEUE_DEPTH,
            enable_conditionals=True,
        )(dali, *files, setting.resolution)
        pipeline.build()

    def batches() -> Generator[int, None, None]:
        while True:
            images, _ = pipeline.run()
            yield len(images)

    endless = batches()  # holds the pipeline, whose threads end with it
    does = "image_random_crop, resize (cubic, antialiased), flip"
    if work.kind == "recipe":
        does += f", RandAugment of 15 operations (2, each with probability 0.5, magnitude {_MAGNITUDE}, linear), normalise"
    lacks = "random erasing, Mixup and CutMix" if work.kind == "recipe" else ""
    return System(dali.version, does, endless, ahead=_QUEUE_DEPTH + 1, close=endless.close, lacks=lacks)


def _import_dali() -> SimpleNamespace:
    """DALI's modules, by import_module, since there is nothing to check their types against."""
    try:
        dali = import_module("nvidia.dali")
        modules = {name: import_module(f"nvidia.dali.{name}") for name in ("fn", "types", "auto_aug.augmentations")}
        rand_augment = import_module("nvidia.dali.auto_aug.rand_augment")
    except ImportError as error:
        raise NotInstalled(str(error)) from None
    return SimpleNamespace(
        fn=modules["fn"],
        types=modules["types"],
        augmentations=modules["auto_aug.augmentations"],
        apply=rand_augment.apply_rand_augment,
        pipeline_def=dali.pipeline_def,
        version=dali.__version__,
    )


def _views(dali: SimpleNamespace, files: list[str], labels: list[int], resolution: int) -> tuple[Any, Any]:
    """Random resized crops, uint8, and labels."""
    jpegs, label = dali.fn.readers.file(files=files, labels=labels, name="files")
    images = dali.fn.decoders.image_random_crop(
        jpegs,
        device="cpu",
        output_type=dali.types.RGB,
        random_area=list(AugmentConfig().crop_scale),
        random_aspect_ratio=list(AugmentConfig().crop_ratio),
        num_attempts=10,
    )
    cubic = dali.types.INTERP_CUBIC
    return dali.fn.resize(images, size=(resolution, resolution), interp_type=cubic, antialias=True), label


def _crop(dali: SimpleNamespace, files: list[str], labels: list[int], resolution: int) -> tuple[Any, Any]:
    images, label = _views(dali, files, labels, resolution)
    return dali.fn.flip(images, horizontal=dali.fn.random.coin_flip(probability=0.5)), label


def _recipe(dali: SimpleNamespace, files: list[str], labels: list[int], resolution: int) -> tuple[Any, Any]:
    """DeiT's recipe as far as DALI can do it; the flip is done with the normalisation, which saves a pass over the pixels."""
    images, label = _views(dali, files, labels, resolution)
    operations = _operations(dali)
    shape = (resolution, resolution)
    for _ in range(2):
        # DALI turns this into a split of the batch
        if dali.fn.random.coin_flip(probability=0.5, dtype=dali.types.BOOL):
            images = dali.apply(operations, images, 1, _MAGNITUDE, _MAX_MAGNITUDE + 1, shape=shape, fill_value=_FILL)
    images = dali.fn.crop_mirror_normalize(
        images,
        dtype=dali.types.FLOAT,
        output_layout="CHW",
        mean=[255 * mean for mean in AugmentConfig().mean],
        std=[255 * std for std in AugmentConfig().std],
        mirror=dali.fn.random.coin_flip(probability=0.5),
    )
    return images, label


def _operations(dali: SimpleNamespace) -> list[Any]:
    """The fifteen operations of timm's rand-...-inc1, with their ranges of magnitude."""
    a = dali.augmentations
    enhance = [
        operation.augmentation((0, 0.9), True, a.shift_enhance_range) for operation in (a.color, a.contrast, a.brightness)
    ]
    return [
        a.auto_contrast,
        a.equalize,
        a.invert,
        a.rotate.augmentation((0, 30), True),
        a.posterize.augmentation((4, 0), False, a.poster_mask_uint8),
        a.solarize.augmentation((256, 0)),
        a.solarize_add.augmentation((0, 110)),
        *enhance,
        a.sharpness.augmentation((0, 0.9), True, a.sharpness_kernel),
        a.shear_x.augmentation((0, 0.3), True),
        a.shear_y.augmentation((0, 0.3), True),
        a.translate_x.augmentation((0, 0.45), True),
        a.translate_y.augmentation((0, 0.45), True),
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides messages of DALI's decoders about missing GPU libraries; errors come as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
