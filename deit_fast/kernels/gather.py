"""Takes the stored images of a batch and a plan for each view, gives what a device needs of them, side by side in memory.

Views of one image that stand next to each other share it: of a JPEG only the tiles under them are cut out, of raw pixels only
the box under them.
"""

from __future__ import annotations

import numpy as np
from numba import carray, prange

from deit_fast.kernels import crop, decode, resample, rng
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg import tiles
from deit_fast.kernels.jpeg.segments import START_OF_SCAN, next_segment
from deit_fast.kernels.share_out import take
from deit_fast.kernels.transpose import void_pointer

# Columns of the jobs, int64, one for each image of a batch
FIRST = 0  # view that shows it
END = 1  # of these views
IS_JPEG = 2
START = 3  # of its part of the host's memory, in bytes: one memory for JPEGs, one for pixels
SIZE = 4  # of that part; then what is used of it
WINDOW = 5  # first row, first column, rows and columns of the image's pixels that it holds
BLOCK = 9  # of tiles; zeros where the JPEG is taken as a whole
IS_TAKEN = 13  # 0: left to the CPU's decoder
JOB_LENGTH = 14

_ALIGNMENT = 64


@compiled()
def plan_jobs(ids, stored, lengths, plans, kind, side, jobs):  # type: ignore[no-untyped-def]
    """Fills jobs (>= B, JOB_LENGTH) but for IS_TAKEN; gives (number of jobs, bytes of memory for JPEGs, for pixels).

    Arguments as for `decode.decode_batch`; side: of the views.
    """
    num_jobs, of_jpegs, of_pixels = np.int64(0), np.int64(0), np.int64(0)
    first = np.int64(0)
    while first < len(ids):
        sample, row = rng.sample_of(ids[first]), stored[first]
        height, width = row[decode.HEIGHT], row[decode.WIDTH]
        is_jpeg = row[decode.MODE] == decode.JPEG_MODE
        grid = decode.tiles_of(row, lengths)[0] if is_jpeg else tiles.NO_TILES
        job = jobs[num_jobs]
        job[:] = 0
        top, bottom, left, right = height, np.int64(0), width, np.int64(0)
        block = (np.int64(0), np.int64(0), np.int64(0), np.int64(0))
        end = first
        while end < len(ids) and rng.sample_of(ids[end]) == sample:
            vertical, horizontal = crop.axes(decode.box_of(plans[end]), 0, 0, 1)
            y0, y1 = resample.reach(kind, vertical, np.int64(side))
            x0, x1 = resample.reach(kind, horizontal, np.int64(side))
            top, bottom, left, right = min(top, y0), max(bottom, y1), min(left, x0), max(right, x1)
            if grid[0] > 0:
                under = tiles.tiles_under(grid, y0, y1, x0, x1)
                block = under if end == first else tiles.union(block, under)
            end += 1
        window = (top, left, bottom - top, right - left)
        if is_jpeg:
            window = tiles.pixels_of(grid, block) if grid[0] > 0 else (np.int64(0), np.int64(0), height, width)
        job[FIRST], job[END], job[IS_JPEG] = first, end, 1 if is_jpeg else 0
        job[WINDOW], job[WINDOW + 1], job[WINDOW + 2], job[WINDOW + 3] = window
        job[BLOCK], job[BLOCK + 1], job[BLOCK + 2], job[BLOCK + 3] = block
        job[START] = of_jpegs if is_jpeg else of_pixels
        job[SIZE] = row[decode.SIZE] if is_jpeg else 3 * window[2] * window[3]
        if is_jpeg:
            of_jpegs += -(-job[SIZE] // _ALIGNMENT) * _ALIGNMENT
        else:
            of_pixels += job[SIZE]
        num_jobs += 1
        first = end
    return num_jobs, of_jpegs, of_pixels


@compiled(parallel=True)
def gather(stored, memory_at, lengths, jobs, num_jobs, num_workers, encoded, pixels):  # type: ignore[no-untyped-def]
    """Fills encoded and pixels (n,) uint8 as the jobs say, each by one worker, and IS_TAKEN of each."""
    counter = np.zeros(1, np.int64)
    for _ in prange(num_workers):
        number = take(counter.ctypes.data)
        while number < num_jobs:
            job = jobs[number]
            row = stored[job[FIRST]]
            height, width = row[decode.HEIGHT], row[decode.WIDTH]
            source = carray(void_pointer(memory_at + row[decode.START]), (row[decode.SIZE],), np.uint8)
            if job[IS_JPEG] == 1:
                part = encoded[job[START] : job[START] + job[SIZE]]
                used = _cut_jpeg(source, decode.tiles_of(row, lengths), height, width, job, part)
                job[IS_TAKEN], job[SIZE] = (1, used) if used > 0 else (0, job[SIZE])
            elif source.size == height * width * 3:
                _copy_box(source.reshape(height, width * 3), job, pixels)
                job[IS_TAKEN] = 1
            number = take(counter.ctypes.data)


@compiled()
def _copy_box(image, job, pixels):  # type: ignore[no-untyped-def]
    """Copies the window of a job from an image (height, 3 width) to its part of the pixels."""
    top, left, rows, columns = job[WINDOW], 3 * job[WINDOW + 1], job[WINDOW + 2], 3 * job[WINDOW + 3]
    for y in range(rows):
        start = job[START] + y * columns
        pixels[start : start + columns] = image[top + y, left : left + columns]


@compiled()
def _header_bytes(encoded):  # type: ignore[no-untyped-def]
    """Bytes of a JPEG before the data of its first scan; 0 where that does not come."""
    marker, _, end = next_segment(encoded, np.int64(2), encoded.size)
    while marker >= 0:
        if marker == START_OF_SCAN:
            return end
        marker, _, end = next_segment(encoded, end, encoded.size)
    return np.int64(0)


@compiled()
def _cut_jpeg(stored, tiling, height, width, job, out):  # type: ignore[no-untyped-def]
    """Bytes of the JPEG that is written to out: of the job's block of tiles, or all. 0 where the device is not to decode it.

    It gets what is common: baseline JPEGs in grey or YCbCr. Of other kinds nvJPEG's pixels may be others than libjpeg's.
    """
    grid, header_bytes, lengths, length_bytes = tiling
    if grid[0] == 0:
        header_bytes = _header_bytes(stored)
    facts = np.empty(head.NUM_FACTS, np.int64)
    if not head.read_facts(stored, header_bytes, facts) or facts[head.WIDTH] != width or facts[head.HEIGHT] != height:
        return np.int64(0)
    if grid[0] > 0:
        block = (job[BLOCK], job[BLOCK + 1], job[BLOCK + 2], job[BLOCK + 3])
        mcu_width, mcu_height = 8 * facts[head.HORIZONTAL], 8 * facts[head.VERTICAL]
        if facts[head.INTERVAL] != grid[0] or mcu_width != grid[1] or mcu_height != grid[2]:
            return np.int64(0)
        return max(tiles.cut(stored, header_bytes, lengths, length_bytes, grid, block, out), np.int64(0))
    if stored[stored.size - 2] != 0xFF or stored[stored.size - 1] != 0xD9:  # cut off
        return np.int64(0)
    out[:] = stored
    return stored.size
