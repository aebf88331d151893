"""Decodes two JPEGs at once. Each step of entropy decoding waits for the one before it, so that two together take less time.

Either may be of any size and kind that `decode_image` knows. Where one ends, another takes its place.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.decode_blocks import decode_two
from deit_fast.kernels.jpeg.decode_image import GOES_ON, NUM_BLOCKS, NUM_PROGRESS, OK, UNSUPPORTED, ImageDecoder, end_row
from deit_fast.kernels.jpeg.decode_scratch import PLAN, PROGRESS, STREAMS, part

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers


@compiled()
def _places(scratch):  # type: ignore[no-untyped-def]
    """Addresses of an image's stream, of its plan, and of the plan's end."""
    plan = _U(scratch.ctypes.data + PLAN)
    num_blocks = part(scratch, PROGRESS, (NUM_PROGRESS,), np.int64)[NUM_BLOCKS]
    return _U(scratch.ctypes.data + STREAMS), plan, plan + _U(32 * num_blocks)


@compiled()
def finish_either(scratch, pixels, scratch2, pixels2):  # type: ignore[no-untyped-def]
    """(which, status): decodes two images on until one has its window, or is not sound: 0 or 1, and OK or UNSUPPORTED.

    Both are in the scratch and pixels of `decode_image.begin_image`. The other goes on in the next call, or in `finish_image`.
    """
    stream, plan, end_plan = _places(scratch)
    stream2, plan2, end_plan2 = _places(scratch2)
    while True:
        found = decode_two(stream, plan, end_plan, stream2, plan2, end_plan2)
        if found > 1:
            return found - 2, UNSUPPORTED
        its_scratch, its_pixels = (scratch, pixels) if found == 0 else (scratch2, pixels2)
        status = end_row(its_scratch, its_pixels)
        if status != GOES_ON:
            return found, status


def finish_one(first: ImageDecoder, second: ImageDecoder) -> tuple[int, bool]:
    """Which of two images that were begun has been finished, 0 or 1, and whether it is sound."""
    which, status = finish_either(first.scratch, first.pixels, second.scratch, second.pixels)
    return int(which), bool(status == OK)
