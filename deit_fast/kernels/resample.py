"""Takes a box of a uint8 image, gives it resized as Pillow resizes it, bit for bit.

Pillow (src/libImaging/Resample.c) resizes in two passes, columns first, each with coefficients in 22-bit fixed point and a
result rounded to uint8. Only the rows and columns that the view shows are computed. Axes are those of `filters`.

Where the processor has AVX2, both passes multiply pairs of bytes (`resample_pairs.py`); elsewhere, and for views and weights
that these do not take, each byte by itself (`resample_singly.py`). The results are the same.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels import resample_pairs, resample_singly
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.filters import (
    BICUBIC,
    BILINEAR,
    BOX,
    FILTERS,
    HAMMING,
    LANCZOS,
    most_pixels,
    most_taps,
    reach,
    shown,
    taps,
)
from deit_fast.kernels.processor import has

__all__ = [
    "BICUBIC", "BILINEAR", "BOX", "FILTERS", "HAMMING", "LANCZOS", "most_pixels", "most_taps", "reach", "resample", "resize",
    "scratch_sizes", "shown", "taps",
]  # fmt: skip

_IN_PAIRS = has("avx2")  # for compiled functions a constant


def scratch_sizes(max_height: int, max_width: int, max_outputs: int, least_full: int | None = None) -> tuple[int, int]:
    """Lengths of the scratch arrays of `resample`: (uint8 rows between the passes and turned ones, int32 coefficients).

    max_height, max_width: of images; max_outputs: the larger side of a view; least_full: the least `full` of its axes, by
    default max_outputs.
    """
    least_full = max_outputs if least_full is None else least_full
    most_taps = 2 * math.ceil(3 * max(max_height / least_full, max_width / least_full, 1)) + 1  # Lanczos
    sizes = [how.scratch_sizes(max_height, max_width, max_outputs, most_taps) for how in (resample_singly, resample_pairs)]
    return max(rows for rows, _ in sizes), max(integers for _, integers in sizes)


@compiled()
def resample(image, vertical, horizontal, kind, mirrored, rows_scratch, int_scratch, view):  # type: ignore[no-untyped-def]
    """view = what two axes show of image, resampled; equals Pillow's crop, resize and crop bit for bit.

    image (H, W, 3) uint8, contiguous, of which axes may see all pixels in their `reach`; view (height, width, 3) uint8,
    contiguous, written; kind: one of FILTERS; mirrored: left to right. The scratch arrays are of the lengths of
    `scratch_sizes`, and hold nothing between calls.
    """
    is_made = False
    if _IN_PAIRS:
        is_made = resample_pairs.resample(image, vertical, horizontal, kind, mirrored, rows_scratch, int_scratch, view)
    if not is_made:
        resample_singly.resample(image, vertical, horizontal, kind, mirrored, rows_scratch, int_scratch, view)


def resize(
    image: np.ndarray, height: int, width: int, kind: int = BICUBIC, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """(height, width, 3) uint8: Pillow's `resize((width, height), box=box)` of image (H, W, 3) uint8, bit for bit.

    box: left, upper, right and lower edge in pixels, the whole image by default; pixels around it take part.
    """
    # Pillow holds a box in single precision, and subtracts its edges there
    left, upper, right, lower = (np.float32(edge) for edge in box or (0, 0, image.shape[1], image.shape[0]))
    vertical = (0, float(upper), float(lower - upper), image.shape[0], height, 0)
    horizontal = (0, float(left), float(right - left), image.shape[1], width, 0)
    sizes = scratch_sizes(image.shape[0], image.shape[1], max(height, width), min(height, width))
    rows, integers = (np.empty(size, dtype) for size, dtype in zip(sizes, (np.uint8, np.int32), strict=True))
    view = np.empty((height, width, 3), np.uint8)
    resample(np.ascontiguousarray(image), vertical, horizontal, kind, False, rows, integers, view)
    return view
