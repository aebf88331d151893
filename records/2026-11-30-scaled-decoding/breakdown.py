"""Where the time of a view goes, in microseconds on one thread: decoded at full size, and at half if that is enough for it.

breakdown.py SET.beton [SIDE] [ROUNDS]: crops of 1,024 images, in turns; a stage is what a run with it takes longer than one
without. Run from the project's root.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import carray

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import train_loader
from deit_fast.kernels import crop, decode, resample
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import (
    decode_blocks,
    decode_half,
    decode_scratch,
    decode_window,
    idct_half,
    planes,
    read_tiles,
    tiles,
)
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.transpose import void_pointer

HEADER, BITS, ENTROPY, TRANSFORM, ALL = range(5)
STAGES = ("header and tables", "unstuff, clear", "entropy", "dequantise, transform", "upsample, colour", "resample")


@compiled()
def tiles_to(level, is_half, encoded, tiling, block, wanted, facts, scratch, counts):  # type: ignore[no-untyped-def]
    """Decodes the tiles of a window up to a stage, and counts tiles, their bytes and coefficients."""
    grid, header_bytes, lengths, length_bytes = tiling
    interval, num_components = grid[0], facts[head.NUM_COMPONENTS]
    factors = facts[head.VERTICAL], facts[head.HORIZONTAL]
    _, _, rows, columns = tiles.pixels_of(grid, block)
    if is_half:
        mcu = idct_half.SIZE * factors[0]
        row, end_row = wanted[0] // 2 // mcu, (wanted[1] + 2 * mcu - 1) // (2 * mcu)
        first_mcu, end_mcu = wanted[2] // 2 // mcu, (wanted[3] + 2 * mcu - 1) // (2 * mcu)
    else:
        row, end_row = planes.mcus_of(num_components, factors[0], wanted[0], wanted[1], rows)
        first_mcu, end_mcu = planes.mcus_of(num_components, factors[1], wanted[2], wanted[3], columns)
    num_blocks = factors[0] * factors[1] + num_components - 1
    streams = decode_scratch.part(scratch, decode_scratch.STREAMS, (decode_scratch.MOST_TILES, 8), np.uint64)
    streams_at = np.uint64(scratch.ctypes.data + decode_scratch.STREAMS)
    plan = np.uint64(scratch.ctypes.data + decode_scratch.PLAN)
    column, mcus = first_mcu // interval, (first_mcu, end_mcu)
    place = row, column, np.int64(0), np.int64(header_bytes)
    while row < end_row:
        number, place = read_tiles.fill_streams(
            encoded, lengths, length_bytes, grid, block, place, end_row, mcus, num_blocks, scratch
        )
        assert number > 0
        if level >= ENTROPY:
            decode_blocks.decode_streams(streams_at, number, plan, plan + np.uint64(32 * num_blocks))
        for i in range(number):
            counts[0] += 1
            counts[1] += np.int64(streams[i, 1] // np.uint64(8) - streams[i, 0])
            counts[2] += np.int64(streams[i, 3] - streams[i, 2]) // 2
            if level >= TRANSFORM and is_half:
                first, end = column * interval, min((column + 1) * interval, end_mcu)
                at, half = np.int64(streams[i, 2]), (columns + 1) // 2
                decode_half._transform_mcus(max(first, first_mcu), end, at, first, facts, half, scratch)
            elif level >= TRANSFORM:
                planes.transform_tile(row, column, interval, np.int64(streams[i, 2]), facts, columns, scratch)
            row, column = read_tiles.next_tile(row, column, interval, mcus)


@compiled()
def views_to(level, max_denominator, stored, plans, side, scratch, pixels, counts):  # type: ignore[no-untyped-def]
    """Decodes views up to a stage."""
    for i in range(len(stored)):
        row = stored[i]
        is_half = decode._denominator(plans[i], max_denominator) == 2
        encoded = carray(void_pointer(row[decode.START]), (row[decode.SIZE],), np.uint8)
        tiling = decode.tiles_of(row, (np.int64(0), np.int64(1) << 62))
        grid, header_bytes, lengths, length_bytes = tiling
        vertical, horizontal = crop.axes(decode.box_of(plans[i]), 0, 0, 1)
        y0, y1 = resample.reach(resample.BICUBIC, vertical, side)
        x0, x1 = resample.reach(resample.BICUBIC, horizontal, side)
        need, block = (y0, y1, x0, x1), tiles.tiles_under(grid, y0, y1, x0, x1)
        arguments = encoded, header_bytes, lengths, length_bytes, grid, block, need
        if level == ALL:
            if is_half:
                decode_half.decode_half(*arguments, scratch, pixels)
            else:
                decode_window.decode_window(*arguments, scratch, pixels)
            continue
        facts = decode_scratch.part(scratch, decode_scratch.FACTS, (head.NUM_FACTS,), np.int64)
        decode_window.judge_header(*arguments, facts)
        top, left, rows, columns = tiles.pixels_of(grid, block)
        decode_window.make_tables(encoded, facts, scratch)
        wanted = need[0] - top, need[1] - top, need[2] - left, need[3] - left
        planes.find_ranges(facts, wanted, rows, columns, scratch)
        if level > HEADER:
            tiles_to(level, is_half, encoded, tiling, block, wanted, facts, scratch, counts)


def views_of(train: str, side: int, is_scaled: bool) -> tuple[Any, Any, Any]:
    """What makes views, their work, and their slot."""
    data = DataConfig(train=train, batch_size=1024, resolution=side, num_workers=1, dct_scaling=is_scaled)
    augment = AugmentConfig(repeats=1, auto_augment="rand-m0-mstd0.5-inc1")
    loader = train_loader(data, augment, seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    views = loader.views()
    work, slot = views.begin(next(iter(loader.order.batches(0)))), loader.take_slot()
    views.locate(work)
    views.plan(work)
    return views, work, slot


def timed(function: Callable[..., Any], *arguments: Any) -> float:
    """Microseconds for each of 1,024 views."""
    started = time.perf_counter()
    function(*arguments)
    return 1e6 * (time.perf_counter() - started) / 1024


def main(train: str, side: str = "96", rounds: str = "15") -> None:
    made = {name: views_of(train, int(side), name == "half") for name in ("full", "half")}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in made}
    counts = {name: np.zeros(3, np.int64) for name in made}
    for number in range(int(rounds) + 1):
        for name, (views, work, slot) in made.items():
            layout = views._decoder.scratch.layout
            scratch, pixels = np.empty(layout[7] // 8, np.uint64).view(np.uint8), np.empty(layout[3], np.uint8)
            arguments = (8 if name == "half" else 1, work.stored, work.plans, int(side), scratch, pixels, counts[name])
            sums = [0.0, *(timed(views_to, level, *arguments) for level in range(ALL + 1)), timed(views.decode, work)]
            times = {stage: after - before for stage, before, after in zip(STAGES, sums, sums[1:], strict=False)}
            times["all of decoding"] = sums[-1]
            times["augment"] = timed(views.augment, work)
            times["finish"] = timed(views.finish, work, views.draw_mix(work), slot.images)
            if number:
                for stage, microseconds in times.items():
                    found[name].setdefault(stage, []).append(microseconds)
    for name, total in counts.items():
        each = total / (TRANSFORM * (int(rounds) + 1) * 1024)
        print(f"{side} pixels, {name}, a view: {each[0]:.1f} tiles, {each[1]:,.0f} bytes, {each[2] / 64:,.0f} blocks")
    for stage in found["full"]:
        print(f"{stage:24}" + "".join(f"{statistics.median(found[name][stage]):8.1f} us {name}" for name in found))


main(*sys.argv[1:])
