"""Takes a view, gives it blurred as Pillow's ImageFilter.GaussianBlur blurs it, bit for bit.

That is three boxes after each other along the rows, then three down the columns, each rounded to bytes. A box has a whole
radius and a part of the two pixels beyond it (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended
box filtering", SSVM 2011; src/libImaging/BoxBlur.c). Beyond the edge lies the pixel at the edge.

Both directions are the same to the functions here: lines of bytes, which are the pixels of a row or the rows of a view.
"""

from __future__ import annotations

import numpy as np

from deit_fast.augment import pixel
from deit_fast.augment.compiled import compiled
from deit_fast.augment.vectors import copy_bytes, floats

_CHANNELS = 3
_PASSES = 3
_NEAR = 1  # greatest whole radius of `_near_box`: standard deviations below 2.45
_MARGIN = _NEAR + 1  # lines before the first and after the last


def blur_bytes(height: int, width: int) -> int:
    """Scratch that `blur` needs: two copies with margins, and 4 bytes for each byte of a row."""
    views = 2 * (height + 2 * _MARGIN) * width * _CHANNELS
    rows = 2 * (width + 2 * _MARGIN) * _CHANNELS
    return views + rows + 4 * width * _CHANNELS + 4


@compiled()
def _repeat_edges(lines, stride, size):  # type: ignore[no-untyped-def]
    """Fills the margins of lines (size bytes between margins of _MARGIN lines) with the first and the last line."""
    first, after = _MARGIN * stride, _MARGIN * stride + size
    for i in range(_MARGIN):
        copy_bytes(lines[first : first + stride], lines[i * stride :])
        copy_bytes(lines[after - stride : after], lines[after + i * stride :])


@compiled()
def _near_box(lines, stride, radius, weight, end_weight, out):  # type: ignore[no-untyped-def]
    """out (flat) = one box of lines with margins, for radius 0 or 1: a sum at each byte, over bytes `stride` apart."""
    a, b, c, d = lines, lines[stride:], lines[2 * stride :], lines[3 * stride :]
    if radius == 0:
        for i in range(out.size):
            out[i] = pixel.boxed(c[i], np.uint32(b[i]) + np.uint32(d[i]), weight, end_weight)
        return
    e = lines[4 * stride :]
    for i in range(out.size):
        total = np.uint32(b[i]) + np.uint32(c[i]) + np.uint32(d[i])
        out[i] = pixel.boxed(total, np.uint32(a[i]) + np.uint32(e[i]), weight, end_weight)


@compiled()
def _wide_box(lines, stride, radius, weight, end_weight, totals, out):  # type: ignore[no-untyped-def]
    """out = one box of lines without margins (both flat), for any radius: a sum that moves down from line to line."""
    last = out.size // stride - 1
    for i in range(stride):
        totals[i] = np.uint32(lines[i]) * (radius + 1) + np.uint32(lines[last * stride + i]) * max(radius - 1 - last, 0)
    for line in range(min(radius, last + 1)):
        for i in range(stride):
            totals[i] += np.uint32(lines[line * stride + i])
    for line in range(last + 1):
        before = lines[max(line - radius - 1, 0) * stride :]
        at_end, after = lines[min(line + radius, last) * stride :], lines[min(line + radius + 1, last) * stride :]
        target = out[line * stride :]
        for i in range(stride):
            totals[i] += np.uint32(at_end[i]) - np.uint32(before[i])
            target[i] = pixel.boxed(totals[i], np.uint32(before[i]) + np.uint32(after[i]), weight, end_weight)


@compiled()
def _three_near_boxes(lines, other, stride, box, out):  # type: ignore[no-untyped-def]
    """out = three boxes of lines with margins; both lines and other, of the same length, are written."""
    radius, weight, end_weight = box
    size, margin = out.size, _MARGIN * stride
    for _ in range(_PASSES - 1):
        _repeat_edges(lines, stride, size)
        _near_box(lines, stride, radius, weight, end_weight, other[margin : margin + size])
        lines, other = other, lines
    _repeat_edges(lines, stride, size)
    _near_box(lines, stride, radius, weight, end_weight, out)


@compiled()
def _three_wide_boxes(lines, other, stride, box, totals, out):  # type: ignore[no-untyped-def]
    """out = three boxes of lines without margins; both lines and other are written."""
    radius, weight, end_weight = box
    _wide_box(lines, stride, radius, weight, end_weight, totals, other[: out.size])
    _wide_box(other, stride, radius, weight, end_weight, totals, lines[: out.size])
    _wide_box(lines, stride, radius, weight, end_weight, totals, out)


@compiled()
def blur(view, sigma, scratch):  # type: ignore[no-untyped-def]
    """view (H, W, 3) uint8 blurred in place; sigma >= 0: the standard deviation in pixels."""
    height, length, size = view.shape[0], view.shape[1] * _CHANNELS, view.size
    box = pixel.box_weights(sigma)
    near = box[0] <= _NEAR
    row_margin = _MARGIN * _CHANNELS if near else 0
    view_margin = _MARGIN * length if near else 0
    row_size, view_size = length + 2 * row_margin, size + 2 * view_margin
    lines, other = scratch[:view_size], scratch[view_size : 2 * view_size]
    row, other_row = scratch[2 * view_size :][:row_size], scratch[2 * view_size + row_size :][:row_size]
    totals = floats(scratch, 2 * (view_size + row_size), length).view(np.uint32)
    for y in range(height):
        copy_bytes(view[y], row[row_margin:])
        out = lines[view_margin + y * length :][:length]
        if near:
            _three_near_boxes(row, other_row, _CHANNELS, box, out)
        else:
            _three_wide_boxes(row, other_row, _CHANNELS, box, totals, out)
    if near:
        _three_near_boxes(lines, other, length, box, view.reshape(size))
    else:
        _three_wide_boxes(lines, other, length, box, totals, view.reshape(size))
