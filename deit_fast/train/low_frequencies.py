"""Crops images in frequency space: EfficientTrain's low-frequency crop, as two products with a small matrix."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.data.load.batch import Batch


def low_frequencies(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images (B, C, side, side) of the lowest frequencies of images (B, C, n, n), n >= side, on the same device, in the same
    dtype and memory format; the mean of each channel stays.

    It is the discrete Fourier transform over both sides, its centred block of side x side, the inverse transform of that, and
    its real part (arXiv 2211.09703; `freq_crop` of LeapLabTHU/EfficientTrain, whose sides are even). Computed in
    float32, also under autocast. It is linear: cropping mixed images is mixing cropped ones.
    """
    matrix = _matrix_on(images.device, images.shape[-1], side)
    with torch.autocast(images.device.type, enabled=False):
        both = matrix @ images.float() @ matrix.T
        cropped = both[..., :side, :side]
        if side % 2 == 0:
            signs = 1.0 - 2.0 * (torch.arange(side, device=images.device) % 2)
            cropped = cropped - both[..., side:, side:] * torch.outer(signs, signs)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    return cropped.to(images.dtype).contiguous(memory_format=wanted)


@functools.cache
def _matrix_on(device: torch.device, n: int, side: int) -> torch.Tensor:
    """`_matrix` on a device. Kept there: to send it, the host would wait for all steps that are queued."""
    return torch.from_numpy(_matrix(n, side)).to(device)


def _matrix(n: int, side: int) -> NDArray[np.float32]:
    """The crop of one side: (side, n) float32, the real part of inverse transform x block x transform; for an even side one row
    more.

    The block of an even side has the frequency -side/2 without its counterpart, whose term is not real: its imaginary part is
    (-1)^j of output j, times that row. In two dimensions the real part then lacks the product of both imaginary parts.
    """
    frequencies = np.arange(side) - side // 2
    phases = np.arange(side)[:, None] / side - np.arange(n)[None] / n
    matrix = np.cos(2 * np.pi * frequencies[:, None, None] * phases).sum(0) / n
    if side % 2 == 0:
        matrix = np.vstack([matrix, np.sin(np.pi * side * np.arange(n) / n) / n])
    return matrix.astype(np.float32)


def cropped(batches: Generator[Batch, None, None], side: int) -> Generator[Batch, None, None]:
    """The batches, their images cropped to a side in pixels where they are larger."""
    with contextlib.closing(batches):
        for batch in batches:
            if batch.images.shape[-1] == side:
                yield batch
            else:
                yield dataclasses.replace(batch, images=low_frequencies(batch.images, side), is_fixed=False)
