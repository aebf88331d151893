"""Takes a JPEG whose restart intervals tile it, gives a smaller JPEG of some of the tiles.

A tile is one restart interval: `interval` MCUs of one row of MCUs. Restart markers end the dependence on what came before,
so the tiles under a crop, put one after another behind the header with another size in it, are an ordinary JPEG. A block of
tiles is (first tile row, end, first tile column, end).

Where chroma is subsampled, a pixel next to a tile's edge also depends on the chroma beyond it, since libjpeg interpolates
(jdsample.c, fancy upsampling): a tile that a crop touches with its last pixel needs the next one. With that, the pixels of
the crop are those of the whole image, bit for bit.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.segments import next_segment

# A grid is (interval, MCU width, MCU height, image width, image height): int64
NO_TILES = (np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0))


@compiled()
def grid_of(interval, num_tiles, mcu_width, mcu_height, width, height):  # type: ignore[no-untyped-def]
    """The grid of a stored JPEG from its row of the index, or NO_TILES where that does not fit its size."""
    if interval <= 0 or mcu_width < 8 or mcu_height < 8:
        return NO_TILES
    mcus_per_row = (width + mcu_width - 1) // mcu_width
    num_rows = (height + mcu_height - 1) // mcu_height
    if mcus_per_row % interval != 0 or mcus_per_row // interval * num_rows != num_tiles:
        return NO_TILES
    return interval, mcu_width, mcu_height, width, height


@compiled()
def tiles_under(grid, y0, y1, x0, x1):  # type: ignore[no-untyped-def]
    """The block of tiles that pixels y0 to y1 - 1, x0 to x1 - 1 of the image depend on."""
    interval, mcu_width, mcu_height, width, height = grid
    if mcu_height > 8:
        y0, y1 = max(y0 - 1, 0), min(y1 + 1, height)
    if mcu_width > 8:
        x0, x1 = max(x0 - 1, 0), min(x1 + 1, width)
    tile_width = interval * mcu_width
    first = x0 // tile_width
    # libjpeg does not interpolate chroma of one or two columns, so a sliver at the right edge is not decoded alone
    if first > 0 and width - first * tile_width <= 4:
        first -= 1
    return y0 // mcu_height, (y1 - 1) // mcu_height + 1, first, (x1 - 1) // tile_width + 1


@compiled()
def pixels_of(grid, block):  # type: ignore[no-untyped-def]
    """(first row, first column, height, width) of the pixels that a block of tiles decodes to."""
    interval, mcu_width, mcu_height, width, height = grid
    top, left = block[0] * mcu_height, block[2] * interval * mcu_width
    return top, left, min(block[1] * mcu_height, height) - top, min(block[3] * interval * mcu_width, width) - left


@compiled()
def num_tiles_of(block):  # type: ignore[no-untyped-def]
    """Number of tiles in a block."""
    return (block[1] - block[0]) * (block[3] - block[2])


@compiled()
def union(first, second):  # type: ignore[no-untyped-def]
    """The smallest block that holds two others."""
    top, bottom = min(first[0], second[0]), max(first[1], second[1])
    return top, bottom, min(first[2], second[2]), max(first[3], second[3])


@compiled()
def _frame_place(encoded, header_bytes):  # type: ignore[no-untyped-def]
    """Offset of height and width in a header, from its frame segment; -1 where there is none."""
    marker, start, end = next_segment(encoded, np.int64(2), header_bytes)
    while marker >= 0:
        if 0xC0 <= marker <= 0xC2:
            return start + 1 if start + 5 <= end else np.int64(-1)
        marker, start, end = next_segment(encoded, end, header_bytes)
    return np.int64(-1)


@compiled()
def cut(encoded, header_bytes, lengths, length_bytes, grid, block, out):  # type: ignore[no-untyped-def]
    """Writes the JPEG of a block of tiles to out; gives its number of bytes, or -1 if the tiles are not where they should be.

    encoded (n,) uint8; lengths: (num_tiles * length_bytes,) uint8, little-endian numbers of 2 or 4 bytes, of each tile with
    the marker behind it; out (>= n,) uint8. Nothing outside these arrays is read or written.
    """
    interval, mcu_width, _, width, _ = grid
    tiles_per_row = (width + mcu_width - 1) // mcu_width // interval
    frame = _frame_place(encoded, min(header_bytes, encoded.size))
    if frame < 0 or header_bytes > encoded.size or out.size < encoded.size:
        return np.int64(-1)
    for i in range(header_bytes):
        out[i] = encoded[i]
    _, _, new_height, new_width = pixels_of(grid, block)
    out[frame], out[frame + 1] = new_height >> 8, new_height & 255
    out[frame + 2], out[frame + 3] = new_width >> 8, new_width & 255
    source = target = np.int64(header_bytes)
    written = np.int64(0)
    for tile_row in range(block[1]):
        for tile_column in range(tiles_per_row):
            tile = (tile_row * tiles_per_row + tile_column) * length_bytes
            length = np.int64(lengths[tile]) | np.int64(lengths[tile + 1]) << 8
            if length_bytes == 4:
                length |= np.int64(lengths[tile + 2]) << 16 | np.int64(lengths[tile + 3]) << 24
            if length < 2 or source + length > encoded.size:
                return np.int64(-1)
            if tile_row >= block[0] and block[2] <= tile_column < block[3]:
                if encoded[source + length - 2] != 0xFF or encoded[source + length - 1] < 0xD0:
                    return np.int64(-1)
                for i in range(np.uint64(length)):
                    out[np.uint64(target) + i] = encoded[np.uint64(source) + i]
                target += length
                out[target - 1] = 0xD0 + (written & 7)
                written += 1
            source += length
    out[target - 1] = 0xD9
    return target
