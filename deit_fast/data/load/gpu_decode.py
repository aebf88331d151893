"""Decodes a batch's stored images on the GPU, into one buffer.

CPU threads gather the device's input in reused memory. Neighbouring views of one image share it; only the tiles under the views
are cut from a JPEG, only the box under them from raw pixels. The device then decodes all JPEGs in one call. Images that it is
not given, or refuses, are left to the CPU's decoder, which also judges damage: here only headers and tile markers are checked,
and nvJPEG does not report damage between them as libjpeg does.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from deit_fast.config import UserError
from deit_fast.data.load.decode import Images
from deit_fast.kernels import decode, gather
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.gather import END, FIRST, IS_JPEG, IS_TAKEN, JOB_LENGTH, SIZE, START, WINDOW

# JPEGs, each (n,) uint8 on the CPU, to RGB (3, height, width) uint8 each; RuntimeError if it refuses any of them
DecodeJpegs = Callable[[list[torch.Tensor]], list[torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Decoded:
    """The images of a batch, for `kernels.resample`.

    pixels: (n,) uint8, on the device, valid until the next batch is decoded. images (N, tables.IMAGE_LENGTH) and crops
    (B, tables.CROP_LENGTH) int64, on the CPU. left (B,) bool: views that are the CPU's to make; their crops show one pixel.
    """

    pixels: torch.Tensor
    images: np.ndarray
    crops: np.ndarray
    left: np.ndarray


class RaggedDecoder:
    """Decodes one batch after another, in memory that grows with the largest of them.

    `num_refused` counts the JPEGs that the device was not given or did not decode; a copy of a sample is not counted again.
    """

    def __init__(self, decode_jpegs: DecodeJpegs, images: Images, kind: int, *, num_workers: int, device: torch.device) -> None:
        self.num_refused = 0
        self._decode_jpegs = decode_jpegs
        self._images = images
        self._kind = kind
        self._num_workers = num_workers
        self._device = device
        self._jobs = np.empty((0, JOB_LENGTH), np.int64)
        self._encoded = self._host_pixels = self._pixels = torch.empty(0, dtype=torch.uint8)
        self._copied: torch.cuda.Event | None = None

    def decode(self, ids: NDArray[np.uint64], stored: NDArray[np.int64], plans: NDArray[np.int64], side: int) -> Decoded:
        """Decodes the images of ids (B,). stored, plans: as for `kernels.decode.decode_batch`; side: of a view.

        Runs on the device's current stream, which must be the only one that uses memory freed there.
        """
        jobs, of_pixels = self._gather(ids, stored, plans, side)
        jpegs = np.flatnonzero((jobs[:, IS_JPEG] == 1) & (jobs[:, IS_TAKEN] == 1))
        sources = [self._encoded[start : start + size] for start, size in jobs[jpegs][:, [START, SIZE]].tolist()]
        decoded = decode_each(self._decode_jpegs, sources)
        for number, image in zip(jpegs.tolist(), decoded, strict=True):
            if image is None or image.shape != (3, *jobs[number, WINDOW + 2 : WINDOW + 4]):
                jobs[number, IS_TAKEN] = 0
        is_taken = jobs[:, IS_TAKEN] == 1
        self.num_refused += int(((jobs[:, IS_JPEG] == 1) & ~is_taken).sum())
        kept = [image for number, image in zip(jpegs.tolist(), decoded, strict=True) if is_taken[number] and image is not None]
        pixels = self._join(kept, of_pixels)
        return Decoded(pixels, *_rows(jobs, plans, stored, of_pixels, side))

    def _gather(
        self, ids: NDArray[np.uint64], stored: NDArray[np.int64], plans: NDArray[np.int64], side: int
    ) -> tuple[NDArray[np.int64], int]:
        """The finished jobs of the batch, and the bytes of pixels among their results."""
        if len(self._jobs) < len(ids):
            self._jobs = np.empty((len(ids), JOB_LENGTH), np.int64)
        lengths = self._images.lengths
        planned = gather.plan_jobs(ids, stored, lengths, plans, np.int64(self._kind), np.int64(side), self._jobs)
        num_jobs, of_jpegs, of_pixels = planned
        if self._copied is not None:  # the memory is still read by the transfer of the batch before
            self._copied.synchronize()
        is_pinned = self._device.type == "cuda"
        self._encoded = _at_least(self._encoded, of_jpegs, pinned=is_pinned)
        self._host_pixels = _at_least(self._host_pixels, of_pixels, pinned=is_pinned)
        memories = self._encoded.numpy(), self._host_pixels.numpy()
        memory_at = self._images.memory.ctypes.data
        gather.gather(stored, memory_at, lengths, self._jobs, num_jobs, self._num_workers, *memories)
        return self._jobs[:num_jobs], of_pixels

    def _join(self, images: list[torch.Tensor], of_pixels: int) -> torch.Tensor:
        """The raw pixels followed by the decoded images, in one buffer on the device."""
        total = of_pixels + sum(image.numel() for image in images)
        self._pixels = _at_least(self._pixels, max(total, 3), device=self._device)
        if of_pixels:
            self._pixels[:of_pixels].copy_(self._host_pixels[:of_pixels], non_blocking=True)
        if self._device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record()
        if images:
            torch.cat([image.reshape(-1) for image in images], out=self._pixels[of_pixels:total])
        return self._pixels


def _rows(
    jobs: np.ndarray, plans: np.ndarray, stored: np.ndarray, of_pixels: int, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, crops and left of a `Decoded`, of jobs that are done."""
    is_taken, is_jpeg = jobs[:, IS_TAKEN] == 1, jobs[:, IS_JPEG] == 1
    images = np.zeros((len(jobs), tables.IMAGE_LENGTH), np.int64)
    images[:, [tables.FIRST_ROW, tables.FIRST_COLUMN, tables.ROWS, tables.COLUMNS]] = jobs[:, WINDOW : WINDOW + 4]
    sizes = 3 * jobs[:, WINDOW + 2] * jobs[:, WINDOW + 3] * (is_taken & is_jpeg)
    images[:, tables.OFFSET] = np.where(is_jpeg, of_pixels + np.cumsum(sizes) - sizes, jobs[:, START])
    images[:, tables.IS_PLANAR] = is_jpeg
    images[:, tables.HEIGHT] = stored[jobs[:, FIRST], decode.HEIGHT]
    images[:, tables.WIDTH] = stored[jobs[:, FIRST], decode.WIDTH]
    image_of = np.repeat(np.arange(len(jobs)), jobs[:, END] - jobs[:, FIRST])
    crops = tables.crop_rows(plans, image_of)
    left = ~is_taken[image_of]
    if left.any():
        # what is left shows the first pixel there is, so that nothing outside the memory is read
        images[~is_taken] = 0
        images[~is_taken, tables.ROWS] = images[~is_taken, tables.COLUMNS] = 1
        images[~is_taken, tables.HEIGHT] = images[~is_taken, tables.WIDTH] = 1
        crops[left, : tables.IMAGE] = (0, 0, 1, 1, side, side, 0, 0, 0)
    return images, crops, left


def _at_least(
    memory: torch.Tensor, num_bytes: int, *, pinned: bool = False, device: torch.device | None = None
) -> torch.Tensor:
    """The memory (n,) uint8, or a larger one where that is too small."""
    if memory.numel() >= num_bytes:
        return memory
    return torch.empty(num_bytes + num_bytes // 4, dtype=torch.uint8, pin_memory=pinned, device=device)


def decode_each(decode_jpegs: DecodeJpegs, sources: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
    """The images that decode_jpegs gives for the sources, None for those that it refuses; these are found by bisection."""
    if not sources:
        return []
    try:
        return list(decode_jpegs(list(sources)))
    except RuntimeError as error:
        # a device without memory, or one that failed, says nothing about an image
        if type(error) is not RuntimeError:
            raise
    if len(sources) == 1:
        return [None]
    half = len(sources) // 2
    return decode_each(decode_jpegs, sources[:half]) + decode_each(decode_jpegs, sources[half:])


def torchvision_decoder(device: torch.device) -> DecodeJpegs:
    """torchvision's decode_jpeg: nvJPEG on a CUDA device; libjpeg on the CPU, where the simulator is tested.

    Up to torchvision 0.29.2, the newest there is, nvJPEG gets memory that PyTorch's allocator gives for the current stream, and
    writes to it on another without waiting for what is queued there and may still read it (pytorch/vision#9606, closed without
    being merged). Where the hardware's engine decodes, a wait queued on the stream would not help either: it does not
    honour that (meta-pytorch/torchcodec#1634). So the host waits until the current stream is done. It must be one on which
    little else runs: the loader's.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode_jpegs(sources: list[torch.Tensor]) -> list[torch.Tensor]:
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        images: list[torch.Tensor] = decode_jpeg(sources, mode=ImageReadMode.RGB, device=device)
        return images

    return decode_jpegs


def check_decoder(device: torch.device) -> None:
    """Raises UserError where torchvision does not decode on the device."""
    encoded = io.BytesIO()
    Image.new("RGB", (16, 16)).save(encoded, "JPEG")
    try:
        torchvision_decoder(device)([torch.frombuffer(bytearray(encoded.getvalue()), dtype=torch.uint8)])
    except (ImportError, RuntimeError) as error:
        line = " ".join(str(error).split())[:300]
        raise UserError(f"data.decode=gpu needs a torchvision that decodes JPEGs by nvJPEG on {device}: {line}") from error
