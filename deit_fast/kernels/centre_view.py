"""Makes the evaluation view of an image, and finds the window of the image that it depends on."""

from __future__ import annotations

from deit_fast.kernels import crop, resample
from deit_fast.kernels.compiled import compiled


@compiled()
def window_of(height, width, resized, side, kind):  # type: ignore[no-untyped-def]
    """(first row, end, first column, end) of the pixels that a view sees: of `crop.resized_centre_crop`, by a filter of
    `kernels.resample`."""
    vertical, horizontal = crop.axes(crop.resized_centre_crop(height, width, resized, side), 0, 0, 1)
    rows, columns = resample.reach(kind, vertical, side), resample.reach(kind, horizontal, side)
    return rows[0], rows[1], columns[0], columns[1]


@compiled()
def show(image, resized, kind, rows_scratch, int_scratch, view):  # type: ignore[no-untyped-def]
    """Fills view (side, side, 3) uint8 from image (H, W, 3) uint8, whose `window_of` is right; scratch as for `resample`."""
    plan = crop.resized_centre_crop(image.shape[0], image.shape[1], resized, view.shape[0])
    vertical, horizontal = crop.axes(plan, 0, 0, 1)
    resample.resample(image, vertical, horizontal, kind, False, rows_scratch, int_scratch, view)
