"""Compares JPEGs decoded on the GPU, by our kernels and by nvJPEG, with Pillow's.

In the simulator of CUDA, libjpeg on the CPU stands for nvJPEG.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from deit_fast.benchmarks.fidelity.crops import GivenCrop
from deit_fast.benchmarks.fidelity.jpegs import pillows, random_batches, reference
from deit_fast.benchmarks.fidelity.material import Material, Pair, Row
from deit_fast.benchmarks.rivals.nvjpeg import check_decoder, decode_each, torchvision_decoder
from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.gpu_decode import Decoded, RaggedDecoder
from deit_fast.data.load.placement import check_device
from deit_fast.kernels import resample, rng
from deit_fast.kernels.decode import STORED_LENGTH

_RESOLUTION = 64
_PLAIN = AugmentConfig(device="gpu", auto_augment="", erase=0, mixup=None, cutmix=None)


def lack_of_kernels() -> str:
    """What this machine lacks to decode and resample on a GPU, in words; nothing where it can."""
    if not torch.cuda.is_available() and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
        return "no CUDA device"
    return _lack(lambda: check_device(DataConfig(decode="gpu"), _PLAIN, _device()))


def lack_of_nvjpeg() -> str:
    """The same for nvJPEG."""
    return lack_of_kernels() or _lack(lambda: check_decoder(_device()))


def _lack(check: Callable[[], None]) -> str:
    try:
        check()
    except UserError as error:
        return str(error).removeprefix("augment.device=gpu: ").removesuffix("; or choose cpu")
    return ""


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class _Decoder:
    """The loader's way from a beton to images on the device."""

    def __init__(self, material: Material) -> None:
        self.beton = open_beton(material.beton)
        self._images = images_of(self.beton)
        self._ragged = RaggedDecoder(self._images, resample.BICUBIC, num_workers=1, device=_device())

    def decode(self, ids: NDArray[np.uint64], plans: NDArray[np.int64], side: int) -> Decoded:
        stored = np.empty((len(ids), STORED_LENGTH), np.int64)
        self._images.locate(ids, stored)
        return self._ragged.decode(ids, stored, plans, side)


def _whole_images(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    decoder = _Decoder(material)
    for sample, jpeg in enumerate(material.jpegs):
        wanted = np.asarray(pillows(jpeg))
        height, width = wanted.shape[:2]
        plan = np.array([[0, 0, height, width, _RESOLUTION, _RESOLUTION, 0, 0, 0]], np.int64)
        decoded = decoder.decode(rng.pack_view_ids(0, np.array([sample]), np.array([0])), plan, _RESOLUTION)
        if not decoded.left[0]:  # else the CPU decodes it
            yield decoded.pixels[: wanted.size].cpu().numpy().reshape(wanted.shape), wanted


def _random_views(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    from deit_fast.data.load.gpu_images import DeviceImages  # which imports numba-cuda

    decoder, maker = _Decoder(material), DeviceImages(_PLAIN, material.seed, "float32", "bicubic", _device())
    for ids, plans in random_batches(material, decoder.beton, 1, _RESOLUTION):
        decoded = decoder.decode(ids, plans, _RESOLUTION)
        views = maker.begin(ids, _RESOLUTION, decoded).cpu().numpy()
        for view_id, plan, view, is_left in zip(ids, plans, views, decoded.left, strict=True):
            if not is_left:
                yield view, reference(material, view_id, plan)


def _by_nvjpeg(jpegs: list[bytes]) -> list[NDArray[np.uint8] | None]:
    """Images (height, width, 3), None where nvJPEG refuses the JPEG."""
    sources = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
    decoded = decode_each(torchvision_decoder(_device()), sources)
    return [None if image is None else np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()) for image in decoded]


def _whole_images_of_nvjpeg(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    for image, jpeg in zip(_by_nvjpeg(material.jpegs), material.jpegs, strict=True):
        if image is not None:
            yield image, np.asarray(pillows(jpeg))


def _random_views_of_nvjpeg(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    """From whole images, cut out and resized by Pillow."""
    images = _by_nvjpeg(material.jpegs)
    for ids, plans in random_batches(material, open_beton(material.beton), 1, _RESOLUTION):
        for view_id, plan in zip(ids, plans, strict=True):
            image = images[int(rng.sample_of(view_id))]
            if image is not None:
                yield np.asarray(GivenCrop(plan, "bicubic")(Image.fromarray(image))), reference(material, view_id, plan)


ROWS = (
    Row("whole image, on a GPU", "Pillow", _whole_images, lack=lack_of_kernels),
    Row("random resized crop, on a GPU", "Pillow, timm", _random_views, lack=lack_of_kernels),
    Row("whole image, nvJPEG", "Pillow", _whole_images_of_nvjpeg, max_wanted=None, lack=lack_of_nvjpeg),
    Row("random resized crop, nvJPEG", "Pillow, timm", _random_views_of_nvjpeg, max_wanted=None, lack=lack_of_nvjpeg),
)
