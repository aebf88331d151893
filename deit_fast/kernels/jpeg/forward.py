"""Takes the pixels of an image, gives the coefficients of a JPEG of them, as libjpeg-turbo's encoder quantises them.

Rows and columns beyond the image repeat its last ones, as in libjpeg (jcprepct.c, jccoefct.c): chroma after it has been made
smaller; blocks that hold nothing of the image have the mean of the block before them.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.forward_colour import CHUNK, convert_row, halve_sides, halve_width
from deit_fast.kernels.jpeg.forward_dct import transform_pair
from deit_fast.kernels.jpeg.progressive_scans import ZIGZAG
from deit_fast.kernels.vectors import copy_memory


def _masks_by_row() -> np.ndarray:
    """(8, 256) uint64: which coefficients in the order of the zigzag are those of a row's byte of bits."""
    found = np.zeros((8, 256), np.uint64)
    for k, place in enumerate(ZIGZAG.tolist()):
        for byte in range(256):
            if byte >> (place % 8) & 1:
                found[place // 8, byte] |= np.uint64(1 << k)
    return found


_MASKS = _masks_by_row()


def scratch_bytes(width: int, horizontal: int, vertical: int) -> int:
    """Bytes of scratch for `coefficients_of`: a row of pixels, a row of MCUs of three components, and of smaller chroma."""
    return int(_stride(np.int64(width), np.int64(horizontal))) * (3 + 24 * vertical + 16)


@compiled()
def _stride(width, horizontal):  # type: ignore[no-untyped-def]
    """Bytes of a row of a component: whole MCUs and whole chunks."""
    mcu = 8 * horizontal
    return ((width + mcu - 1) // mcu * mcu + CHUNK - 1) // CHUNK * CHUNK


@compiled()
def coefficients_of(pixels, horizontal, vertical, tables, scratch, coefficients, masks):  # type: ignore[no-untyped-def]
    """Writes the coefficients of RGB pixels (height, width, 3) uint8, contiguous.

    horizontal, vertical: how many samples of luma are beside and above each other for one of chroma, 1 or 2; tables
    (3, 3, 8, 16) uint16: `forward_dct.divisors` of each component; scratch (>= scratch_bytes(),) uint8. Written, in the order
    of a scan of MCUs: coefficients (blocks, 64) int16, row by row, and masks (blocks,) uint64, see `encode_blocks`.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    stride = _stride(width, horizontal)
    mcus_per_row = (width + 8 * horizontal - 1) // (8 * horizontal)
    num_rows = (height + 8 * vertical - 1) // (8 * vertical)
    per_mcu = horizontal * vertical + 2
    planes = scratch.ctypes.data + 3 * stride
    smaller = planes + 24 * vertical * stride
    for row in range(num_rows):
        _fill_planes(pixels, row, horizontal, vertical, stride, scratch.ctypes.data, planes, smaller)
        for component in range(3):
            across, down = (horizontal, vertical) if component == 0 else (np.int64(1), np.int64(1))
            plane = planes + component * 8 * vertical * stride
            if component > 0 and horizontal * vertical > 1:
                plane = smaller + (component - 1) * 8 * stride
            columns = (width * across + 8 * horizontal - 1) // (8 * horizontal)
            rows = (height * down + 8 * vertical - 1) // (8 * vertical)
            first = row * mcus_per_row * per_mcu + (0 if component == 0 else per_mcu - 3 + component)
            for y in range(down):
                line = first + y * across
                if row * down + y < rows:
                    _transform_line(plane + 8 * y * stride, stride, columns, across, per_mcu, tables[component], line,
                                    coefficients, masks)  # fmt: skip
                    _pad_line(columns, mcus_per_row * across, across, per_mcu, line, coefficients, masks)
                else:
                    for x in range(mcus_per_row * across):
                        at = line + x // across * per_mcu + x % across
                        before = line + x // across * per_mcu - 1
                        _repeat_mean(before, at, coefficients, masks)


@compiled()
def _transform_line(source, stride, columns, across, per_mcu, table, line, coefficients, masks):  # type: ignore[no-untyped-def]
    """The blocks of one row of a component, two at a time."""
    found = np.zeros(2, np.uint64)
    table_at, target, found_at = table.ctypes.data, coefficients.ctypes.data, found.ctypes.data
    for x in range(0, columns, 2):
        other = min(x + 1, columns - 1)
        at = line + x // across * per_mcu + x % across
        other_at = line + other // across * per_mcu + other % across
        transform_pair(
            source + 8 * x, source + 8 * other, stride, table_at, target + 128 * at, target + 128 * other_at, found_at
        )
        masks[np.uint64(at)] = _in_zigzag(found[0])
        masks[np.uint64(other_at)] = _in_zigzag(found[1])


@compiled()
def _in_zigzag(mask):  # type: ignore[no-untyped-def]
    found = np.uint64(0)
    for row in range(8):
        found |= _MASKS[row, (mask >> np.uint64(8 * row)) & np.uint64(255)]
    return found


@compiled()
def _pad_line(columns, all_columns, across, per_mcu, line, coefficients, masks):  # type: ignore[no-untyped-def]
    """The blocks of one row of a component behind the image."""
    for x in range(columns, all_columns):
        at = line + x // across * per_mcu + x % across
        _repeat_mean(at - 1, at, coefficients, masks)


@compiled()
def _repeat_mean(before, at, coefficients, masks):  # type: ignore[no-untyped-def]
    coefficients[at] = 0
    coefficients[at, 0] = coefficients[before, 0]
    masks[at] = 0


@compiled()
def _fill_planes(pixels, row, horizontal, vertical, stride, line, planes, smaller):  # type: ignore[no-untyped-def]
    """Writes the levels of one row of MCUs. line, planes, smaller: addresses of 3 rows, of 3 * 8 * vertical rows, and of 2 * 8
    rows of stride bytes."""
    height, width = pixels.shape[0], pixels.shape[1]
    size = 8 * vertical * stride  # of a component's plane
    num_chunks = stride // CHUNK
    first = 8 * vertical * row
    for y in range(8 * vertical):
        target = planes + y * stride
        if first + y >= height:
            for component in range(3):
                copy_memory(target + component * size, target + component * size - stride, stride)
            continue
        copy_memory(line, pixels.ctypes.data + 3 * width * (first + y), 3 * width)
        for x in range(width, stride):
            copy_memory(line + 3 * x, line + 3 * x - 3, np.int64(3))
        convert_row(line, target, target + size, target + 2 * size, num_chunks)
    if horizontal == 1:
        return
    num_smaller = min(8, (height - first + vertical - 1) // vertical)
    for component in range(2):
        for y in range(8):
            source = planes + (component + 1) * size + vertical * y * stride
            target = smaller + (8 * component + y) * stride
            if y >= num_smaller:
                copy_memory(target, target - stride, stride)
            elif vertical == 2:
                halve_sides(source, stride, target, num_chunks)
            else:
                halve_width(source, target, num_chunks)
