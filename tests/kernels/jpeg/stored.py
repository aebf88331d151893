"""JPEGs with tiles as a beton stores them, and windows of them decoded by the CPU."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.data.convert.transcode import Transcoder, tiling_of
from deit_fast.kernels.jpeg import tiles, turbojpeg
from deit_fast.kernels.jpeg.decode_half import decode_half
from deit_fast.kernels.jpeg.decode_window import decode_window, scratch_bytes

GUARD = 64
KINDS = ["4:4:4", "4:2:2", "4:2:0", "grey"]


@dataclass(frozen=True, eq=False)
class Stored:
    """A stored JPEG and what an index says of it."""

    encoded: bytes
    lengths: bytes
    length_bytes: int
    header_bytes: int
    grid: tuple[int, ...]

    @property
    def tile_rows(self) -> int:
        return -(-self.grid[4] // self.grid[2])

    @property
    def tile_columns(self) -> int:
        return -(-self.grid[3] // self.grid[1]) // self.grid[0]


def noise(seed: int, height: int, width: int, kind: str, quality: int) -> bytes:
    """Noise at several scales, so that blocks of all sorts occur: flat ones, those of all 63 coefficients, clipped levels."""
    generator = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for scale in (1, 4, 16, 64):
        noise = generator.integers(0, 256, (height // scale + 1, width // scale + 1, 3), dtype=np.uint8)
        large = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        image += (np.asarray(large, np.float64) - 128) * generator.uniform(0, 1.2)
    picture = Image.fromarray(np.clip(image + 128, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    if kind == "grey":
        picture.convert("L").save(file, "JPEG", quality=quality)
    else:
        picture.save(file, "JPEG", quality=quality, subsampling=kind)
    return file.getvalue()


def stored_of(encoded: bytes, *, optimize: bool = False, length_bytes: int = 4) -> Stored:
    made = Transcoder(optimize=optimize).transcode(encoded)
    tiling = made.tiling
    sides = tiling.mcu_width, tiling.mcu_height, made.width, made.height
    grid = tiles.grid_of(tiling.interval, len(tiling.lengths), *sides)
    lengths = tiling.lengths.astype(f"<u{length_bytes}").tobytes()
    return Stored(made.encoded, lengths, length_bytes, tiling.header_bytes, grid)


def decode(
    stored: Stored, block: tuple[int, ...], need: tuple[int, ...], denominator: int = 1
) -> tuple[int, NDArray[np.uint8]]:
    """Status and pixels (h, w, 3) of a block at 1 / denominator, 1 or 2; memory beside the arrays must stay as it is."""
    function = decode_window if denominator == 1 else decode_half
    height, width = (-(-side // denominator) for side in tiles.pixels_of(stored.grid, block)[2:])
    encoded = np.frombuffer(stored.encoded, np.uint8)
    size = scratch_bytes(stored.grid[3], len(encoded))
    scratch = np.full(size + GUARD, 77, np.uint8)
    pixels = np.full(height * width * 3 + 2 * GUARD, 78, np.uint8)
    lengths = np.frombuffer(stored.lengths, np.uint8)
    inner = pixels[GUARD:-GUARD]
    status = function(
        encoded, stored.header_bytes, lengths, stored.length_bytes, stored.grid, block, need, scratch[:size], inner
    )
    assert (scratch[size:] == 77).all()
    assert (pixels[:GUARD] == 78).all()
    assert (pixels[-GUARD:] == 78).all()
    return status, inner.reshape(height, width, 3)


def whole(stored: Stored, denominator: int = 1) -> tuple[int, NDArray[np.uint8]]:
    _, _, _, width, height = stored.grid
    return decode(stored, (0, stored.tile_rows, 0, stored.tile_columns), (0, height, 0, width), denominator)


def reference(stored: Stored) -> tuple[int, NDArray[np.uint8]]:
    _, _, _, width, height = stored.grid
    decoder = turbojpeg.JpegDecoder()
    status, pixels = decoder.decode(stored.encoded, height, width)
    return status, pixels.copy()


def mutated_bytes(encoded: bytes, header_bytes: int, other: bytes, generator: np.random.Generator) -> bytes:
    """With bits flipped, bytes cut, doubled or exchanged, or another image's header, anywhere or in the header."""
    changed = bytearray(encoded)
    limit = header_bytes if generator.random() < 0.4 else len(changed)
    at = int(generator.integers(2, limit))
    size = int(generator.integers(1, 40))
    match generator.integers(0, 7):
        case 0 | 1:
            for place in generator.integers(2, limit, generator.integers(1, 4)):
                changed[place] ^= 1 << generator.integers(0, 8)
        case 2:
            del changed[at : at + size]
        case 3:
            changed[at:at] = changed[at : at + size]
        case 4:
            changed[at : at + 2] = bytes((0xFF, int(generator.integers(0, 256))))
        case 5:
            changed[:header_bytes] = other
        case _:
            changed[at : at + size] = generator.integers(0, 256, len(changed[at : at + size]), dtype=np.uint8).tobytes()
    return bytes(changed)


def indexed_anew(stored: Stored, changed: bytes) -> Stored | None:
    """Changed bytes of a stored JPEG with the index of their own tiles; None if they have none."""
    try:
        tiling = tiling_of(changed)
    except ValueError:
        return None
    grid = tiles.grid_of(tiling.interval, len(tiling.lengths), tiling.mcu_width, tiling.mcu_height, *stored.grid[3:])
    return Stored(changed, tiling.lengths.astype("<u4").tobytes(), 4, tiling.header_bytes, grid) if grid[0] > 0 else None


def window_of(
    stored: Stored, height: int, width: int, corners: Sequence[float], margins: Sequence[int]
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """A window (first row, end, first column, end) of pixels, with corners at these shares of the sides, and a block that holds
    it: the tiles under it, and margins beside them."""
    y0, y1 = sorted(int(corner * height) for corner in corners[:2])
    x0, x1 = sorted(int(corner * width) for corner in corners[2:])
    need = y0, y1 + 1, x0, x1 + 1
    first_row, end_row, first, end = tiles.tiles_under(stored.grid, *need)
    block = (
        max(first_row - margins[0], 0), min(end_row + margins[1], stored.tile_rows),
        max(first - margins[2], 0), min(end + margins[3], stored.tile_columns),
    )  # fmt: skip
    return need, block
