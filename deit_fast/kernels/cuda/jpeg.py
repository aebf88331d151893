"""Decodes the tiles of a batch's JPEGs, bit for bit as libjpeg-turbo does, in three kernels: bits, coefficients, samples.

All tables are those of `kernels.jpeg.device_tables`. Whatever the bytes hold, nothing outside a JPEG's own memory is read or
written.
"""

from __future__ import annotations

from typing import Any

from deit_fast.kernels.cuda.jpeg_bits import decode_bits
from deit_fast.kernels.cuda.jpeg_pixels import show
from deit_fast.kernels.cuda.jpeg_samples import transform


def decode(
    encoded: tuple[Any, Any],
    jpegs: Any,
    tiles: Any,
    num_jpegs: int,
    bits: Any,
    coefficients: Any,
    samples: tuple[Any, Any],
    pixels: Any,
    statuses: Any,
) -> None:
    """Queues the decoding of a batch's JPEGs. Arrays from `cuda.array`.

    encoded: bytes (n,) uint8, and the same memory (n / 4,) int32. jpegs (N, JPEG_LENGTH) and tiles (T, TILE_LENGTH) int64.
    Written: bits (>= `device_tables.num_bit_words`,) int32, which hold nothing between calls; coefficients (n,) int16, zeros
    before; samples (n,) uint8, and the same memory as int32; pixels, flat uint8; statuses (N,) int32, zeros before.
    """
    decode_bits(encoded, jpegs, tiles, num_jpegs, bits, coefficients, statuses)
    transform(encoded[0], jpegs, num_jpegs, coefficients, samples[1], statuses)
    show(jpegs, num_jpegs, samples[0], pixels)
