"""Huffman symbols of tiles, against a plain decoder of one bit after the other; bounds of the kernel that decodes them."""

from __future__ import annotations

import numpy as np
import pytest

from deit_fast.benchmarks.gpu.bounds import INSTRUCTIONS_OF_SYMBOL, Needs, bounds_of, tile_needs
from deit_fast.benchmarks.gpu.symbols import count_symbols
from deit_fast.kernels.jpeg import device_tables as there
from tests.kernels.cuda.jpeg_batch import Batch, whole
from tests.kernels.jpeg.stored import KINDS, noise, stored_of

Codes = dict[tuple[int, int], int]  # symbol by the length of its code and the code


def _codes(definition: bytes) -> Codes:
    codes, code, at = {}, 0, 16
    for length in range(1, 17):
        for _ in range(definition[length - 1]):
            codes[length, code] = definition[at]
            code, at = code + 1, at + 1
        code *= 2
    return codes


def _count(encoded: bytes, jpeg: np.ndarray, tile: np.ndarray) -> int:
    data = encoded[tile[there.START] : tile[there.END]].replace(b"\xff\0", b"\xff")
    bits = iter("".join(f"{byte:08b}" for byte in data))
    tables = [_codes(encoded[at : at + 16 + 256]) if at >= 0 else {} for at in jpeg[there.CODES : there.CODES + 4]]
    num_luma = int(jpeg[there.HORIZONTAL] * jpeg[there.VERTICAL])
    components = [0] * num_luma + list(range(1, int(jpeg[there.NUM_COMPONENTS])))
    count = 0
    for component in components * int(tile[there.NUM_MCUS]):
        table, k = 2 * (int(jpeg[there.SELECTED]) >> component & 1), 0
        while k < 64:
            length = code = 0
            while (length, code) not in tables[table]:
                length, code = length + 1, 2 * code + int(next(bits))
            symbol, count = tables[table][length, code], count + 1
            for _ in range(symbol & 15):
                next(bits)
            k = 1 if k == 0 else 64 if symbol == 0 else k + 1 + (symbol >> 4)
            table |= 1
    assert tile[there.NUM_MCUS] == 0 or len(list(bits)) < 8
    return count


@pytest.mark.parametrize("optimize", [True, False])
def test_symbols_are_those_of_a_plain_decoder(optimize: bool) -> None:
    batch = Batch([whole(stored_of(noise(seed, 40, 150, kind, 60), optimize=optimize)) for seed, kind in enumerate(KINDS)])
    encoded = bytes(batch._bytes)
    counts = count_symbols(np.frombuffer(encoded, np.uint8), batch.jpegs, batch.tiles)
    wanted = [_count(encoded, batch.jpegs[tile[there.JPEG]], tile) for tile in batch.tiles]
    assert counts.tolist() == wanted
    assert min(wanted) > 0


def test_a_thread_takes_every_so_many_tiles_and_its_warp_waits() -> None:
    jpegs = np.zeros((2, there.JPEG_LENGTH), np.int64)
    jpegs[:, there.TILE_ROWS], jpegs[:, there.TILE_COLUMNS] = 1, (70, 3)
    jpegs[1, there.FIRST_TILE] = 70
    symbols = np.full(73, 10)
    symbols[[3, 67, 71]] = 100, 50, 7  # thread 3 of 64 takes tiles 3 and 67 of the first
    needs = tile_needs(999, jpegs, np.zeros((73, there.TILE_LENGTH), np.int64), symbols, 64)
    assert needs.bytes == 999
    assert needs.chain == 150 * INSTRUCTIONS_OF_SYMBOL
    assert needs.instructions == 32 * (100 + 10 + 50 + 10) * INSTRUCTIONS_OF_SYMBOL


def test_bounds_follow_from_what_is_known_of_the_device() -> None:
    needs = Needs(1000, instructions=128 * 600, chain=80)
    limits = {"bytes_per_second": 1e3, "host_bytes_per_second": 1e2, "cycles_per_second": 1e2, "num_multiprocessors": 3}
    assert bounds_of(needs, limits) == {"bytes": 1.0, "instructions": 2.0, "latency": 2.0}
    assert bounds_of(Needs(1000, from_host=True), limits) == {"bytes": 10.0}
    assert bounds_of(needs, {}) == {}
