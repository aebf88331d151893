"""torchvision's JPEG decoder on a GPU, nvJPEG, for comparison: of whole images, or cut to the tiles under the views."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numba import carray, prange
from numpy.typing import NDArray
from PIL import Image

from deit_fast.config import UserError
from deit_fast.data.load.decode import ANYWHERE, LENGTHS_ANYWHERE, Images
from deit_fast.kernels import decode, gather
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import device_tables, tiles
from deit_fast.kernels.share_out import take
from deit_fast.kernels.transpose import void_pointer

# JPEGs, each (n,) uint8 on the CPU, to RGB (3, height, width) uint8 each; RuntimeError if it refuses any of them
DecodeJpegs = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def torchvision_decoder(device: torch.device) -> DecodeJpegs:
    """torchvision's decode_jpeg: nvJPEG on a CUDA device, libjpeg on the CPU.

    Up to torchvision 0.29.2, the newest there is, nvJPEG gets memory that PyTorch's allocator gives for the current stream, and
    writes to it on another without waiting for what is queued there and may still read it (pytorch/vision#9606, closed without
    being merged). Where the hardware's engine decodes, a wait queued on the stream would not help either: it does not
    honour that (meta-pytorch/torchcodec#1634). So the host waits until the current stream is done.
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
        raise UserError(f"nvJPEG: torchvision does not decode JPEGs on {device}: {line}") from error


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


@compiled(parallel=True)
def _cut_jpegs(stored, memory_at, lengths, jobs, num_workers, sizes, encoded):  # type: ignore[no-untyped-def]
    """Writes the JPEG of each job's tiles, or all of it where it has none, into the job's row of encoded; fills sizes."""
    counter = np.zeros(1, np.int64)
    for _ in prange(num_workers):
        number = take(counter.ctypes.data)
        while number < len(jobs):
            job, row = jobs[number], stored[jobs[number, gather.FIRST]]
            source = carray(void_pointer(memory_at + row[decode.START]), (row[decode.SIZE],), np.uint8)
            grid, header_bytes, of_tiles, length_bytes = decode.tiles_of(row, lengths)
            out = encoded[number]
            if grid[0] > 0 and job[gather.IS_TAKEN] == 1:
                block = job[gather.BLOCK], job[gather.BLOCK + 1], job[gather.BLOCK + 2], job[gather.BLOCK + 3]
                sizes[number] = tiles.cut(source, header_bytes, of_tiles, length_bytes, grid, block, out)
            else:
                out[: source.size] = source
                sizes[number] = source.size
            number = take(counter.ctypes.data)


class NvjpegDecoder:
    """Decodes the JPEGs of one batch after another; of those with tiles, the tiles under the views. Raw pixels are left out."""

    def __init__(
        self, decode_jpegs: DecodeJpegs, images: Images, kind: int, *, batch_size: int, num_workers: int, is_pinned: bool
    ) -> None:
        self.num_refused = 0
        self._decode_jpegs = decode_jpegs
        self._images = images  # keeps the files mapped: rows of `stored` hold addresses in them
        self._how = kind, num_workers
        self._jobs = np.empty((batch_size, gather.JOB_LENGTH), np.int64)
        self._jpegs = np.empty((batch_size, device_tables.JPEG_LENGTH), np.int64)
        self._encoded = torch.empty(batch_size, images.largest.jpeg_bytes, dtype=torch.uint8, pin_memory=is_pinned)

    def decode(
        self, ids: NDArray[np.uint64], stored: NDArray[np.int64], plans: NDArray[np.int64], side: int
    ) -> list[torch.Tensor | None]:
        """The images (3, height, width) of ids (B,), None for those that are refused; arguments as for `RaggedDecoder`."""
        kind, num_workers = self._how
        where = stored, ANYWHERE, LENGTHS_ANYWHERE
        how = np.int64(kind), np.int64(side), np.zeros(len(ids), bool), np.int64(2**62), num_workers
        num_jobs = gather.plan_jobs(ids, *where, plans, *how, self._jobs, self._jpegs)[0]
        jobs = self._jobs[:num_jobs]
        jobs = jobs[jobs[:, gather.IS_JPEG] == 1]
        sizes = np.empty(len(jobs), np.int64)
        _cut_jpegs(*where, jobs, num_workers, sizes, self._encoded.numpy())
        sources = [row[:size] for row, size in zip(self._encoded, sizes.tolist(), strict=False)]
        decoded = decode_each(self._decode_jpegs, sources)
        self.num_refused += sum(image is None for image in decoded)
        return decoded
