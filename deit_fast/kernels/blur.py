"""Takes a view, gives it blurred as Pillow's ImageFilter.GaussianBlur blurs it, bit for bit.

That is three boxes after each other along the rows, then three down the columns, each rounded to bytes. A box has a whole
radius and a part of the two pixels beyond it (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended
box filtering", SSVM 2011; src/libImaging/BoxBlur.c). Beyond the edge lies the pixel at the edge.

Both directions are the same to the functions here: lines of bytes, which are the pixels of a row or the rows of a view.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import pixel
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.vectors import copy_bytes, floats

_CHANNELS = 3
_PASSES = 3
_NEAR = 1  # greatest whole radius of `_near_box`: standard deviations below 2.45
_MARGIN = _NEAR + 1  # lines before the first and after the last


def blur_bytes(height: int, width: int) -> int:
    """Scratch that `blur` needs: two copies with margins, and 4 bytes for each byte of a row."""
    rows, columns = height * (width + 2 * _MARGIN), (height + 2 * _MARGIN) * width
    return (2 * max(rows, columns) + 4 * width) * _CHANNELS + 8


@compiled()
def _repeat_edges(lines, stride, pitch):  # type: ignore[no-untyped-def]
    """Fills the margins of _MARGIN lines at both ends of each `pitch` bytes with the first and the last line between them."""
    margin = _MARGIN * stride
    for start in range(0, lines.size, pitch):
        group = lines[start : start + pitch]
        for i in range(margin):
            group[i] = group[margin + i % stride]
            group[pitch - margin + i] = group[pitch - margin - stride + i % stride]


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
def _three_near_boxes(levels, num_groups, stride, box, scratch):  # type: ignore[no-untyped-def]
    """Three boxes in place, for radius 0 or 1, down the lines of `stride` bytes of each of so many equal parts of levels.

    All parts are one loop; what it makes of the margins between them is written over.
    """
    radius, weight, end_weight = box
    size, margin = levels.size // num_groups, _MARGIN * stride
    pitch = size + 2 * margin
    whole = pitch * num_groups
    lines, other = scratch[:whole], scratch[whole : 2 * whole]
    for group in range(num_groups):
        copy_bytes(levels[group * size : (group + 1) * size], lines[group * pitch + margin :])
    for _ in range(_PASSES):
        _repeat_edges(lines, stride, pitch)
        _near_box(lines, stride, radius, weight, end_weight, other[margin : whole - margin])
        lines, other = other, lines
    for group in range(num_groups):
        copy_bytes(lines[group * pitch + margin :][:size], levels[group * size :])


@compiled()
def _three_wide_boxes(levels, num_groups, stride, box, scratch):  # type: ignore[no-untyped-def]
    """The same for any radius, part by part."""
    radius, weight, end_weight = box
    size = levels.size // num_groups
    totals = floats(scratch, size, stride).view(np.uint32)
    for start in range(0, levels.size, size):
        lines, other = levels[start : start + size], scratch[:size]
        for _ in range(_PASSES):
            copy_bytes(lines, other)
            _wide_box(other, stride, radius, weight, end_weight, totals, lines)


@compiled()
def blur(view, argument, scratch):  # type: ignore[no-untyped-def]
    """view (H, W, 3) uint8 blurred in place; argument >= 0: the standard deviation in pixels."""
    levels, box = view.reshape(view.size), pixel.box_weights(argument)
    num_groups, stride = view.shape[0], np.int64(_CHANNELS)  # a constant would be compiled for itself, in vain
    for _ in range(2):  # along each row, then down the columns
        if box[0] <= _NEAR:
            _three_near_boxes(levels, num_groups, stride, box, scratch)
        else:
            _three_wide_boxes(levels, num_groups, stride, box, scratch)
        num_groups, stride = 1, view.shape[1] * _CHANNELS
