"""Takes a stored JPEG with tiles, gives the pixels of a window of it, bit for bit those of libjpeg-turbo, in less time.

Only the tiles that the window depends on are read, each up to the last MCU that it depends on. Rows of MCUs are decoded from
top to bottom into planes of luma and chroma that hold two of them, so that they stay in the nearest cache, and are turned
into pixels from there.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from deit_fast.augment.compiled import compiled
from deit_fast.augment.turn import void_pointer
from deit_fast.data import tiles
from deit_fast.data.jpeg import decode_tables as head
from deit_fast.data.jpeg.bitstream import PADDING
from deit_fast.data.jpeg.colour import CHUNK, convert_full, convert_grey, convert_half_sides, convert_half_width
from deit_fast.data.jpeg.decode_blocks import NATURAL_ORDER, decode_one, decode_two
from deit_fast.data.jpeg.idct import transform_blocks
from deit_fast.data.jpeg.tile_bits import ends_with, length_of, unstuff_tile

OK = 0
UNSUPPORTED = 1  # for TurboJPEG: a JPEG of another kind, or one on whose header libjpeg would remark
DAMAGED = 2

_MARGIN = 64  # bytes before and behind a row of a plane
_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers

# Where in scratch the parts of fixed size lie, in bytes, all multiples of 64
_FACTS = 0
_RANGES = 512  # (3, 4) int64: samples of each component that are wanted: first row, end, first column, end
_TOO_LARGE = 640
_STREAMS = 704
_PLAN = 832
_LAST_CHUNK = 1152
_FACTORS = 1280  # (3, 8, 16) int16
_TABLES = 2048  # eight lookups
_PLANES = _TABLES + 8 * head.TABLE_BYTES


def scratch_bytes(max_width: int, max_jpeg_bytes: int) -> int:
    """Bytes of scratch that `decode_window` needs for images up to a width, stored in up to so many bytes."""
    return int(_scratch_bytes(np.int64(max_width), np.int64(max_jpeg_bytes)))


@compiled()
def _stride(width):  # type: ignore[no-untyped-def]
    return (width + 31) // 32 * 32 + 2 * _MARGIN


@compiled()
def _coefficients_of_a_tile(width):  # type: ignore[no-untyped-def]
    """Bytes for a tile as wide as the image: 48 for each pixel's column, and one block that does not count."""
    return (48 * (width + 15) + 128 + 63) // 64 * 64


@compiled()
def _scratch_bytes(width, num_bytes):  # type: ignore[no-untyped-def]
    return _PLANES + 64 * _stride(width) + 2 * _coefficients_of_a_tile(width) + num_bytes + 2 * PADDING


@compiled()
def _part(scratch, at, shape, kind):  # type: ignore[no-untyped-def]
    """An array that lies in scratch from a place on."""
    return carray(void_pointer(scratch.ctypes.data + at), shape, kind)


@compiled()
def decode_window(encoded, header_bytes, lengths, length_bytes, grid, block, need, scratch, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding a window of a stored JPEG.

    encoded (n,) uint8, lengths (m,) uint8, length_bytes, grid, block as in `data.tiles`; need: (first row, end, first column,
    end) of the image's pixels that are wanted, which lie in the block's; scratch (>= scratch_bytes(),) uint8, its address a
    multiple of 8. Written: pixels (>= h * w * 3,) uint8, the RGB rows of the block's pixels, right where they are wanted.
    Whatever the arrays hold, nothing outside them is read or written.
    """
    interval, mcu_width, mcu_height, width, height = grid
    is_index = length_bytes == 2 or length_bytes == 4
    if not is_index or tiles.grid_of(interval, lengths.size // length_bytes, mcu_width, mcu_height, width, height)[0] == 0:
        return UNSUPPORTED
    top, left, rows, columns = tiles.pixels_of(grid, block)
    is_inside = top <= need[0] < need[1] <= top + rows and left <= need[2] < need[3] <= left + columns
    is_inside &= block[0] >= 0 and block[2] >= 0 and pixels.size >= rows * columns * 3
    if not is_inside or scratch.size < _scratch_bytes(width, np.int64(encoded.size)):
        return UNSUPPORTED
    facts = _part(scratch, _FACTS, (head.NUM_FACTS,), np.int64)
    if not head.read_facts(encoded, header_bytes, facts):
        return UNSUPPORTED
    if facts[head.WIDTH] != width or facts[head.HEIGHT] != height or facts[head.INTERVAL] != interval:
        return DAMAGED
    if 8 * facts[head.HORIZONTAL] != mcu_width or 8 * facts[head.VERTICAL] != mcu_height:
        return DAMAGED
    # libjpeg does not interpolate chroma of one or two columns
    if (facts[head.HORIZONTAL] == 2 and columns <= 4) or not _make_tables(encoded, facts, scratch):
        return UNSUPPORTED
    wanted = need[0] - top, need[1] - top, need[2] - left, need[3] - left
    _find_ranges(facts, wanted, rows, columns, scratch)
    status = _decode_tiles(encoded, header_bytes, lengths, length_bytes, grid, block, wanted, facts, scratch, pixels)
    return UNSUPPORTED if status == OK and _part(scratch, _TOO_LARGE, (16,), np.int16).any() else status


@compiled()
def _make_tables(encoded, facts, scratch):  # type: ignore[no-untyped-def]
    """Whether the header's Huffman tables are sound; fills all of scratch that decoding blocks needs from the header."""
    plan = _part(scratch, _PLAN, (8, 4), np.uint64)
    factors = _part(scratch, _FACTORS, (3, 8, 16), np.int16)
    _part(scratch, _TOO_LARGE, (16,), np.int16)[:] = 0
    made = np.int64(0)
    number = np.int64(0)
    for component in range(facts[head.NUM_COMPONENTS]):
        place = head.COMPONENTS + 3 * component
        lookups = scratch.ctypes.data + _TABLES
        for table in facts[place + 1 : place + 3]:
            if made >> table & 1 == 0:
                at = facts[head.DEFINITIONS + table]
                if not head.make_lookup(encoded, at, table < 4, lookups + table * head.TABLE_BYTES):
                    return False
                made |= 1 << table
        at = facts[head.QUANTIZATIONS + facts[place]]
        head.make_quantization(encoded, at, NATURAL_ORDER, factors[component])
        for _ in range(facts[head.HORIZONTAL] * facts[head.VERTICAL] if component == 0 else 1):
            plan[number, 0] = lookups + facts[place + 1] * head.TABLE_BYTES
            plan[number, 1] = lookups + facts[place + 2] * head.TABLE_BYTES
            plan[number, 2] = 40 + 8 * component
            number += 1
    return True


@compiled()
def _find_ranges(facts, wanted, rows, columns, scratch):  # type: ignore[no-untyped-def]
    """Which samples of each component the wanted pixels depend on: of interpolated chroma, those beside them too."""
    ranges = _part(scratch, _RANGES, (3, 4), np.int64)
    for component in range(facts[head.NUM_COMPONENTS]):
        for axis in range(2):
            first, end = wanted[2 * axis], wanted[2 * axis + 1]
            factor = facts[head.VERTICAL] if axis == 0 else facts[head.HORIZONTAL]
            if component > 0 and factor == 2:
                size = ((rows if axis == 0 else columns) + 1) // 2
                first, end = max((first - 1) >> 1, 0), min((end >> 1) + 1, size)
            ranges[component, 2 * axis], ranges[component, 2 * axis + 1] = first, end


@compiled()
def _mcus(ranges, axis, facts):  # type: ignore[no-untyped-def]
    """First MCU and end, in the window, along an axis."""
    factor = facts[head.VERTICAL] if axis == 0 else facts[head.HORIZONTAL]
    size = 8 * factor
    first, end = ranges[0, 2 * axis] // size, (ranges[0, 2 * axis + 1] + size - 1) // size
    if facts[head.NUM_COMPONENTS] == 3:
        first, end = min(first, ranges[1, 2 * axis] // 8), max(end, (ranges[1, 2 * axis + 1] + 7) // 8)
    return first, end


@compiled()
def _decode_tiles(encoded, header_bytes, lengths, length_bytes, grid, block, wanted, facts, scratch, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding the tiles that hold the wanted samples, two at a time, and turning them into pixels."""
    interval, mcu_width, mcu_height, width, height = grid
    tiles_per_row = (width + mcu_width - 1) // mcu_width // interval
    last_tile = tiles_per_row * ((height + mcu_height - 1) // mcu_height) - 1
    ranges = _part(scratch, _RANGES, (3, 4), np.int64)
    row, end_row = _mcus(ranges, 0, facts)
    first_mcu, end_mcu = _mcus(ranges, 1, facts)
    first_column, end_column = first_mcu // interval, (end_mcu + interval - 1) // interval
    num_blocks = facts[head.HORIZONTAL] * facts[head.VERTICAL] + facts[head.NUM_COMPONENTS] - 1
    plan = _U(scratch.ctypes.data + _PLAN)
    end_plan = plan + _U(32 * num_blocks)
    streams, streams_at = _part(scratch, _STREAMS, (2, 8), np.uint64), _U(scratch.ctypes.data + _STREAMS)
    _, _, rows, columns = tiles.pixels_of(grid, block)
    planes_at = scratch.ctypes.data + _PLANES
    coefficients_at = _PLANES + 64 * _stride(columns)
    tile_coefficients = interval * num_blocks * 64
    bits_at = coefficients_at + 2 * _coefficients_of_a_tile(width)
    bits = _part(scratch, bits_at, (scratch.size - bits_at,), np.uint8)
    column = first_column
    tile = np.int64(0)
    source = header_bytes
    done = wanted[0]
    while row < end_row:
        number = np.int64(0)
        used_bits = np.int64(0)
        next_row, next_column = row, column
        while number < 2 and next_row < end_row:
            wanted_tile = (block[0] + next_row) * tiles_per_row + block[2] + next_column
            while tile < wanted_tile:
                source += length_of(lengths, length_bytes, tile)
                tile += 1
            length = length_of(lengths, length_bytes, tile)
            if not ends_with(encoded, source, length, 0xD9 if tile == last_tile else 0xD0 + (tile & 7)):
                return DAMAGED
            num_bytes = unstuff_tile(encoded, source, source + length - 2, bits, used_bits)
            if num_bytes < 0:
                return DAMAGED
            num_mcus = min(end_mcu - next_column * interval, interval)
            place = coefficients_at + number * _coefficients_of_a_tile(width)
            _part(scratch, place, (num_mcus * num_blocks * 64,), np.int16)[:] = 0
            bits_address = scratch.ctypes.data + bits_at + used_bits
            streams[number, 0], streams[number, 1] = bits_address, 8 * (bits_address + num_bytes)
            streams[number, 2] = scratch.ctypes.data + place
            streams[number, 3] = scratch.ctypes.data + place + num_mcus * num_blocks * 128
            used_bits += num_bytes + PADDING
            number += 1
            next_column += 1
            if next_column == end_column:
                next_row, next_column = next_row + 1, first_column
        if number == 2:
            is_sound = decode_two(streams_at, streams_at + _U(64), plan, end_plan)
        else:
            is_sound = decode_one(streams_at, plan, end_plan)
        if not is_sound:
            return DAMAGED
        for i in range(number):
            is_whole = (column + 1) * interval <= end_mcu
            if streams[i, 4] > streams[i, 1] or (is_whole and streams[i, 1] - streams[i, 4] >= _U(8)):
                return DAMAGED
            coefficients = scratch.ctypes.data + coefficients_at + i * _coefficients_of_a_tile(width)
            _transform_tile(row, column, interval, coefficients, facts, columns, planes_at, scratch)
            column += 1
            if column == end_column:
                done = _show_rows(row, done, wanted, rows, columns, facts, planes_at, scratch, pixels)
                row, column = row + 1, first_column
    return OK


@compiled()
def _plane_rows(facts, component):  # type: ignore[no-untyped-def]
    """Rows that a component's plane holds: of two MCUs."""
    return 16 * (facts[head.VERTICAL] if component == 0 else 1)


@compiled()
def _plane(facts, component, columns, planes_at):  # type: ignore[no-untyped-def]
    """Address of the first sample of a component's plane."""
    place = 0 if component == 0 else _plane_rows(facts, 0) + 16 * (component - 1)
    return planes_at + place * _stride(columns) + _MARGIN


@compiled()
def _transform_tile(row, column, interval, coefficients, facts, columns, planes_at, scratch):  # type: ignore[no-untyped-def]
    """Turns a tile's coefficients into samples, in those blocks that hold wanted ones; row, column: of the tile in the window."""
    ranges = _part(scratch, _RANGES, (3, 4), np.int64)
    num_blocks = facts[head.HORIZONTAL] * facts[head.VERTICAL] + facts[head.NUM_COMPONENTS] - 1
    stride = _stride(columns)
    for component in range(facts[head.NUM_COMPONENTS]):
        horizontal = facts[head.HORIZONTAL] if component == 0 else 1
        vertical = facts[head.VERTICAL] if component == 0 else 1
        first_block = 0 if component == 0 else num_blocks - 3 + component
        factors = scratch.ctypes.data + _FACTORS + 256 * component
        plane, plane_rows = _plane(facts, component, columns, planes_at), _plane_rows(facts, component)
        first_y = max(ranges[component, 0] // 8, row * vertical)
        end_y = min((ranges[component, 1] + 7) // 8, (row + 1) * vertical)
        first_x = max(ranges[component, 2] // 8, column * interval * horizontal)
        end_x = min((ranges[component, 3] + 7) // 8, (column + 1) * interval * horizontal)
        for y in range(first_y, end_y):
            target = plane + (8 * y & (plane_rows - 1)) * stride
            line = first_block + (y - row * vertical) * horizontal
            for x in range(first_x, end_x, 2):
                other_x = min(x + 1, end_x - 1)
                at, other = x - column * interval * horizontal, other_x - column * interval * horizontal
                if horizontal == 2:
                    at, other = (at >> 1) * num_blocks + (at & 1), (other >> 1) * num_blocks + (other & 1)
                else:
                    at, other = at * num_blocks, other * num_blocks
                transform_blocks(
                    coefficients + 128 * (line + at), coefficients + 128 * (line + other), factors,
                    target + 8 * x, target + 8 * other_x, stride, scratch.ctypes.data + _TOO_LARGE,
                )  # fmt: skip


@compiled()
def _repeat_edges(row, facts, columns, planes_at):  # type: ignore[no-untyped-def]
    """Copies the first and the last sample of each row of chroma beyond the edges."""
    stride = _stride(columns)
    size = (columns + 1) // 2
    for component in range(1, facts[head.NUM_COMPONENTS]):
        at = _plane(facts, component, columns, planes_at) + (8 * row & 15) * stride
        for line in range(8):
            samples = carray(void_pointer(at + line * stride - _MARGIN), (stride,), np.uint8)
            samples[_MARGIN - 1] = samples[_MARGIN]
            samples[_MARGIN + size] = samples[_MARGIN + size - 1]


@compiled()
def _show_rows(row, done, wanted, rows, columns, facts, planes_at, scratch, pixels):  # type: ignore[no-untyped-def]
    """Turns the wanted rows of pixels from `done` on that are complete after a row of MCUs; gives the first that is not."""
    horizontal, vertical = facts[head.HORIZONTAL], facts[head.VERTICAL]
    num_components = facts[head.NUM_COMPONENTS]
    stride = _stride(columns)
    end = 8 * vertical * (row + 1)
    if horizontal == 2:
        _repeat_edges(row, facts, columns, planes_at)
    if vertical == 2 and end < rows:
        end -= 1  # the last row depends on the chroma below
    end = min(end, wanted[1])
    x = wanted[2] // CHUNK * CHUNK
    num_chunks = (wanted[3] - x + CHUNK - 1) // CHUNK
    luma_plane = _plane(facts, 0, columns, planes_at) + x
    cb_plane = _plane(facts, 1, columns, planes_at) + x // horizontal
    cr_plane = _plane(facts, 2, columns, planes_at) + x // horizontal
    for y in range(done, end):
        luma = luma_plane + (y & (16 * vertical - 1)) * stride
        near = far = y // vertical
        if vertical == 2:
            far = max(near - 1, 0) if y & 1 == 0 else min(near + 1, (rows + 1) // 2 - 1)
        near, far = (near & 15) * stride, (far & 15) * stride
        # what is written behind the row is overwritten with the next, but for the last bytes of all
        target = 3 * (y * columns + x)
        num_whole = min((rows * columns * 3 - target) // (3 * CHUNK), num_chunks)
        for chunk in range(num_whole, num_chunks + 1):
            count, at = np.int64(1), chunk
            place = scratch.ctypes.data + _LAST_CHUNK
            if chunk == num_chunks:
                count, at, place = num_whole, np.int64(0), pixels.ctypes.data + target
            step = at * CHUNK // horizontal
            cb, other_cb, cr, other_cr = (
                cb_plane + near + step,
                cb_plane + far + step,
                cr_plane + near + step,
                cr_plane + far + step,
            )
            if num_components == 1:
                convert_grey(luma + at * CHUNK, cb, other_cb, cr, other_cr, place, count)
            elif horizontal == 1:
                convert_full(luma + at * CHUNK, cb, other_cb, cr, other_cr, place, count)
            elif vertical == 1:
                convert_half_width(luma + at * CHUNK, cb, other_cb, cr, other_cr, place, count)
            else:
                convert_half_sides(luma + at * CHUNK, cb, other_cb, cr, other_cr, place, count)
            if chunk < num_chunks:
                last = _part(scratch, _LAST_CHUNK, (3 * CHUNK,), np.uint8)
                first = target + 3 * CHUNK * chunk
                for i in range(min(3 * CHUNK, rows * columns * 3 - first)):
                    pixels[first + i] = last[i]
    return max(done, end)
