"""Gathers what a device needs of a batch's stored images, side by side in memory: JPEGs to decode, and raw pixels.

Views of one image that stand next to each other share it: of a JPEG only the tiles under them are sent, of raw pixels only the
box under them. What the CPU's decoder judges by header, index and markers is judged here, by the same functions. Images that
are shrunk by more than the device can are left to the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, prange

from deit_fast.kernels import crop, decode, resample, rng
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.copying import copy_bytes
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg import decode_window, device_tables, sent_tiles, tiles
from deit_fast.kernels.share_out import take
from deit_fast.kernels.transpose import void_pointer

# Columns of the jobs, int64, one for each image of a batch
FIRST = 0  # view that shows it
END = 1  # of these views
IS_JPEG = 2
IS_TAKEN = 3  # 0: left to the CPU's decoder
START = 4  # of its part of the host's memory, in bytes: one memory for JPEGs, one for raw pixels
SIZE = 5  # of that part
WINDOW = 6  # first row, first column, rows and columns of the image's pixels that are on the device then
BLOCK = 10  # of tiles, of a JPEG
READ = 14  # tiles of the block that are sent, and MCUs: see `sent_tiles.tiles_read`
END_MCU = 18
JPEG = 19  # its row in the table of JPEGs
JOB_LENGTH = 20

ALIGNMENT = 64  # of each JPEG's part of the bytes, and of the pixels behind raw ones


class Totals(NamedTuple):
    """What the jobs of a batch take: numbers of jobs, of JPEGs, their tiles and their blocks of 64 coefficients or samples;
    bytes of these JPEGs, of raw pixels, then of these and all before the JPEGs' pixels, and of all pixels."""

    jobs: int
    jpegs: int
    tiles: int
    blocks: int
    encoded: int
    raw: int
    first_pixel: int
    pixels: int


@compiled()
def _aligned(size):  # type: ignore[no-untyped-def]
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


@compiled()
def _group(ids, jobs):  # type: ignore[no-untyped-def]
    """Number of jobs; says of each which views it is for."""
    num_jobs = np.int64(0)
    for i in range(len(ids)):
        if i == 0 or rng.sample_of(ids[i]) != rng.sample_of(ids[i - 1]):
            jobs[num_jobs, FIRST] = i
            num_jobs += 1
        jobs[num_jobs - 1, END] = i + 1
    return num_jobs


@compiled()
def _needed(plans, kind, side):  # type: ignore[no-untyped-def]
    """(first row, end, first column, end) of the pixels that any of these views of one image sees."""
    need = (np.int64(2**62), np.int64(-(2**62)), np.int64(2**62), np.int64(-(2**62)))
    for i in range(len(plans)):
        vertical, horizontal = crop.axes(decode.box_of(plans[i]), 0, 0, 1)
        y0, y1 = resample.reach(kind, vertical, side)
        x0, x1 = resample.reach(kind, horizontal, side)
        need = tiles.union(need, (y0, y1, x0, x1))
    return need


@compiled()
def _most_taps(plans, kind):  # type: ignore[no-untyped-def]
    """Upper bound on the pixels of a row or column that an output of any of these views sees."""
    most = np.int64(0)
    for i in range(len(plans)):
        vertical, horizontal = crop.axes(decode.box_of(plans[i]), 0, 0, 1)
        most = max(most, resample.most_taps(kind, vertical), resample.most_taps(kind, horizontal))
    return most


@compiled()
def _plan_job(row, memory_at, lengths, need, facts, job, jpeg):  # type: ignore[no-untyped-def]
    """Fills a job but for FIRST, END, START and JPEG, and the row that describes its JPEG; facts: scratch."""
    job[IS_JPEG:] = 0
    height, width, size = row[decode.HEIGHT], row[decode.WIDTH], row[decode.SIZE]
    job[IS_JPEG] = 1 if row[decode.MODE] == decode.JPEG_MODE else 0
    if job[IS_JPEG] == 0:
        top, bottom, left, right = need
        job[WINDOW], job[WINDOW + 1], job[WINDOW + 2], job[WINDOW + 3] = top, left, bottom - top, right - left
        job[SIZE] = 3 * (bottom - top) * (right - left)
        job[IS_TAKEN] = 1 if size == height * width * 3 else 0
        return
    tiling = decode.tiles_of(row, lengths)
    grid, header_bytes, of_tiles, length_bytes = tiling
    if grid[0] == 0:
        return
    block = tiles.tiles_under(grid, need[0], need[1], need[2], need[3])
    encoded = carray(void_pointer(memory_at + row[decode.START]), (size,), np.uint8)
    status = decode_window.judge_header(encoded, header_bytes, of_tiles, length_bytes, grid, block, need, facts)
    if status != decode_window.OK or not sent_tiles.describe(facts, grid, block, need, jpeg):
        return
    read, end_mcu = sent_tiles.tiles_read(facts, grid, block, need)
    num_bytes = sent_tiles.num_bytes_read(size, tiling, block, read)
    if num_bytes < 0:
        return
    job[IS_TAKEN], job[SIZE], job[END_MCU] = 1, num_bytes, end_mcu
    window = tiles.pixels_of(grid, block)
    for k in range(4):
        job[WINDOW + k], job[BLOCK + k], job[READ + k] = window[k], block[k], read[k]


@compiled()
def _place_jobs(jobs, jpegs, most_bytes):  # type: ignore[no-untyped-def]
    """The `Totals` after the number of jobs; gives each job that is taken its part of memory, and each JPEG its row.

    Takes no more than fit into so many bytes of pixels.
    """
    raw = np.int64(0)
    for job in jobs:
        if job[IS_TAKEN] == 1 and job[IS_JPEG] == 0:
            if raw + job[SIZE] > most_bytes:
                job[IS_TAKEN] = 0
                continue
            job[START] = raw
            raw += job[SIZE]
    num_jpegs = num_tiles = num_blocks = encoded = np.int64(0)
    first_pixel = pixels = _aligned(raw)
    for i in range(len(jobs)):
        job = jobs[i]
        if job[IS_TAKEN] == 1 and job[IS_JPEG] == 1:
            row = jpegs[num_jpegs]
            for k in range(len(row)):  # the assignment of a slice to a slice takes seconds to compile
                row[k] = jpegs[i, k]
            job[JPEG], job[START] = num_jpegs, encoded
            of_tiles, of_blocks, of_pixels = sent_tiles.place(row, num_tiles, num_blocks, encoded, pixels)
            if pixels + of_pixels > most_bytes:
                job[IS_TAKEN] = 0
                continue
            num_jpegs += 1
            num_tiles += of_tiles
            num_blocks += of_blocks
            encoded += _aligned(job[SIZE])
            pixels += of_pixels
    return num_jpegs, num_tiles, num_blocks, encoded, raw, first_pixel, pixels


@compiled(parallel=True)
def plan_jobs(  # type: ignore[no-untyped-def]
    ids, stored, memory_at, lengths, plans, kind, side, left, most_bytes, num_workers, jobs, jpegs
):
    """Fills jobs (>= B, JOB_LENGTH) int64 and jpegs (>= B, device_tables.JPEG_LENGTH) int64; gives the `Totals`.

    Arguments as for `decode.decode_batch`; side: of the views; left (B,) bool: views that are the CPU's to decode.
    most_bytes: of pixels; images that do not fit are left to the CPU.
    """
    num_jobs = _group(ids, jobs)
    counter = np.zeros(1, np.int64)
    for _ in prange(num_workers):
        facts = np.empty(head.NUM_FACTS, np.int64)
        number = take(counter.ctypes.data)
        while number < num_jobs:
            first, end = jobs[number, FIRST], jobs[number, END]
            need = _needed(plans[first:end], kind, side)
            _plan_job(stored[first], memory_at, lengths, need, facts, jobs[number], jpegs[number])
            if left[first:end].any() or _most_taps(plans[first:end], kind) > tables.MAX_TAPS:
                jobs[number, IS_TAKEN] = 0
            number = take(counter.ctypes.data)
    return num_jobs, *_place_jobs(jobs[:num_jobs], jpegs, most_bytes)


@compiled(parallel=True)
def gather(stored, memory_at, lengths, jobs, jpegs, num_workers, encoded, rows, pixels):  # type: ignore[no-untyped-def]
    """Fills what `plan_jobs` has planned, each job (N, JOB_LENGTH) by one worker, and takes back IS_TAKEN of damaged JPEGs.

    Written: encoded (n,) uint8, the bytes of JPEGs; rows (>= num_tiles, device_tables.TILE_LENGTH) int64, the table of tiles;
    pixels (n,) uint8, the raw ones.
    """
    counter = np.zeros(1, np.int64)
    for _ in prange(num_workers):
        number = take(counter.ctypes.data)
        while number < len(jobs):
            job = jobs[number]
            row = stored[job[FIRST]]
            source = carray(void_pointer(memory_at + row[decode.START]), (row[decode.SIZE],), np.uint8)
            if job[IS_TAKEN] == 1 and job[IS_JPEG] == 1:
                first = jpegs[job[JPEG], device_tables.FIRST_TILE]
                _send_jpeg(source, decode.tiles_of(row, lengths), job, encoded, rows[first:])
            elif job[IS_TAKEN] == 1:
                _copy_box(source, 3 * row[decode.WIDTH], job, pixels)
            number = take(counter.ctypes.data)


@compiled()
def _four(job, place):  # type: ignore[no-untyped-def]
    return job[place], job[place + 1], job[place + 2], job[place + 3]


@compiled()
def _send_jpeg(stored, tiling, job, encoded, rows):  # type: ignore[no-untyped-def]
    block, read = _four(job, BLOCK), _four(job, READ)
    if not sent_tiles.send(stored, tiling, block, read, job[END_MCU], job[JPEG], job[START], encoded, rows):
        job[IS_TAKEN] = 0


@compiled()
def _copy_box(image, stride, job, pixels):  # type: ignore[no-untyped-def]
    """Copies the window of a job from an image, whose rows lie `stride` bytes apart, to its part of the pixels."""
    rows, columns = job[WINDOW + 2], 3 * job[WINDOW + 3]
    start = job[WINDOW] * stride + 3 * job[WINDOW + 1]
    for y in range(rows):
        copy_bytes(pixels, job[START] + y * columns, image, start + y * stride, start + y * stride + columns)


@compiled()
def finish_jobs(jobs, jpegs, stored, plans, side, images, crops, left):  # type: ignore[no-untyped-def]
    """Number of JPEGs that are left to the CPU; says where the images of jobs (N, JOB_LENGTH) are, and what views show of them.

    Arguments as for `plan_jobs`. Written: images (N, IMAGE_LENGTH) and crops (B, CROP_LENGTH) int64, of
    `kernels.cuda.tables`; left (B,) bool: views that are the CPU's to make. These show the first pixel there is, so that
    nothing outside the memory is read.
    """
    num_left = np.int64(0)
    for number in range(len(jobs)):
        job, image = jobs[number], images[number]
        is_jpeg = job[IS_JPEG] == 1
        is_taken = job[IS_TAKEN] == 1
        num_left += is_jpeg and not is_taken
        image[:] = 0
        image[tables.ROWS] = image[tables.COLUMNS] = image[tables.HEIGHT] = image[tables.WIDTH] = 1
        if is_taken:
            row = stored[job[FIRST]]
            image[tables.OFFSET] = jpegs[job[JPEG], device_tables.FIRST_PIXEL] if is_jpeg else job[START]
            image[tables.FIRST_ROW], image[tables.FIRST_COLUMN] = job[WINDOW], job[WINDOW + 1]
            image[tables.ROWS], image[tables.COLUMNS] = job[WINDOW + 2], job[WINDOW + 3]
            image[tables.HEIGHT], image[tables.WIDTH] = row[decode.HEIGHT], row[decode.WIDTH]
        for i in range(job[FIRST], job[END]):
            left[i] = not is_taken
            for k in range(tables.IMAGE):
                crops[i, k] = plans[i, k]
            crops[i, tables.IMAGE] = number
            if not is_taken:
                crops[i, : tables.IMAGE] = 0
                crops[i, 2:4], crops[i, 4:6] = 1, side
    return num_left


@compiled()
def find_damaged(jobs, statuses, damaged):  # type: ignore[no-untyped-def]
    """Number of JPEGs of jobs (N, JOB_LENGTH) that the device did not decode, by its statuses (J,) int32.

    Written: damaged (B,) bool, the views of these.
    """
    damaged[:] = False
    num_damaged = np.int64(0)
    for job in jobs:
        if job[IS_JPEG] == 1 and job[IS_TAKEN] == 1 and statuses[job[JPEG]] != 0:
            damaged[job[FIRST] : job[END]] = True
            num_damaged += 1
    return num_damaged
