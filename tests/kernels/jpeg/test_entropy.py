"""Huffman tables and the passes over entropy-coded data, each against a slow definition of what it does."""

from __future__ import annotations

import heapq
import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from deit_fast.kernels.jpeg import bitstream, entropy, huffman


def _definition(counts: dict[int, int], symbols: list[int]) -> bytes:
    return bytes(counts.get(length, 0) for length in range(1, 17)) + bytes(symbols)


def _cost(frequencies: np.ndarray) -> int:
    """Bits of the best code that has one symbol more, which does not occur: the sum of a Huffman tree's inner nodes."""
    heap = [(int(count), False) for count in frequencies if count] + [(0, True)]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        total += first[0] + second[0]
        heapq.heappush(heap, (first[0] + second[0], True))
    return total


@given(st.dictionaries(st.integers(0, 255), st.integers(1, 1000), min_size=1, max_size=256))
@example({0: 1})
@example(dict.fromkeys(range(256), 1))
def test_best_table_is_the_best(counts: dict[int, int]) -> None:
    frequencies = np.zeros(256, np.int64)
    for symbol, count in counts.items():
        frequencies[symbol] = 1000 * count  # so much that the symbol which does not occur weighs nothing
    out = np.zeros(272, np.uint8)
    tables = huffman.CodeTables()
    assert tables.define(4, out[: huffman.best_table(frequencies, out)].tobytes())
    np.testing.assert_array_equal(tables.lengths[4] > 0, frequencies > 0)
    bits = int((tables.lengths[4].astype(int) * frequencies).sum())
    if tables.lengths[4].max() < 16:
        assert _cost(frequencies) <= bits <= _cost(frequencies) * 1.001


@pytest.mark.parametrize("num", [18, 30, 60])
def test_codes_have_at_most_16_bits(num: int) -> None:
    frequencies = np.zeros(256, np.int64)
    frequencies[:num] = [2**exponent for exponent in range(num)]  # the deepest tree
    out = np.zeros(272, np.uint8)
    tables = huffman.CodeTables()
    assert tables.define(4, out[: huffman.best_table(frequencies, out)].tobytes())
    lengths = tables.lengths[4, :num].astype(int)
    assert lengths.max() == 16 and lengths.min() >= 1
    assert (np.diff(lengths) <= 0).all(), "a more frequent symbol has no longer code"
    assert (0.5**lengths).sum() + 0.5**16 <= 1


def test_unsound_tables_are_refused() -> None:
    tables = huffman.HuffmanTables()
    assert tables.define(4, _definition({2: 3}, [1, 2, 3]))
    assert not tables.define(4, _definition({2: 4}, [1, 2, 3, 4])), "the code of ones alone"
    assert not tables.define(4, _definition({1: 1, 2: 2}, [1, 2, 3])), "the code of ones alone"
    assert not tables.define(4, _definition({1: 1, 2: 3}, [1, 2, 3, 4])), "too many codes"
    assert not tables.define(4, _definition({2: 2}, [1, 1])), "a symbol twice"
    assert not tables.define(0, _definition({2: 2}, [1, 16])), "a DC symbol of 16 bits"
    assert tables.define(4, _definition({2: 3}, [1, 2, 3])), "refused tables do not count as known"
    assert tables.lengths[4, [1, 2, 3, 4]].tolist() == [2, 2, 2, 0]


@given(st.lists(st.integers(1, 30), min_size=2, max_size=200), st.integers(0, 2**64 - 1))
def test_symbol_of_coming_bits(exponents: list[int], bits: int) -> None:
    frequencies = np.zeros(256, np.int64)
    frequencies[: len(exponents)] = [2**exponent for exponent in exponents]
    out = np.zeros(272, np.uint8)
    tables = huffman.HuffmanTables()
    assert tables.define(5, out[: huffman.best_table(frequencies, out)].tobytes())
    text = f"{bits:064b}"
    found = [
        symbol << 8 | length
        for symbol, (length, code) in enumerate(zip(tables.lengths[5].tolist(), tables.codes[5].tolist(), strict=True))
        if length and text.startswith(f"{code:0{length}b}")
    ]
    rows = tables.limits[5], tables.offsets[5], tables.symbols[5]
    assert [huffman.symbol_of(np.uint64(bits), *rows)] == (found or [-1])
    entry = int(tables.single[5, bits >> (64 - huffman.LOOKUP_BITS)])
    assert entry in (0, *found)
    assert entry or not found or found[0] & 255 > huffman.LOOKUP_BITS


@given(st.lists(st.sampled_from([0, 1, 0x7F, 0xFE, 0xFF]), max_size=80), st.integers(0, 70), st.booleans())
def test_unstuff(data: list[int], reset: int, filled: bool) -> None:
    reset = min(reset, len(data))
    stuffed = bytearray(b"header")
    for place, byte in enumerate(data):
        if place == reset:
            stuffed += b"\xff\xff\xd0" if filled else b"\xff\xd0"
        stuffed += bytes((byte, 0)) if byte == 0xFF else bytes((byte,))
    if reset == len(data):
        stuffed += b"\xff\xd0"
    stuffed += b"\xff\xd9"
    bits = np.full(len(stuffed) + bitstream.PADDING, 77, np.uint8)
    resets = np.zeros(1, np.int64)
    source = np.frombuffer(bytes(stuffed) + b"rest", np.uint8)
    assert bitstream.unstuff(source, 6, bits, resets) == (bitstream.OK, len(data), 1, len(stuffed))
    assert bits[: len(data)].tolist() == data and resets[0] == reset
    assert not bits[len(data) : len(data) + bitstream.PADDING].any()
    assert bitstream.unstuff(source, 6, bits, resets[:0])[0] == bitstream.WRONG_RESTART
    for cut in range(6, len(stuffed)):
        # each ends where the data end, and not after the bytes that a wider read would reach
        assert bitstream.unstuff(source[:cut], 6, bits, resets)[0] == bitstream.NO_END


@pytest.mark.parametrize("value", [0, 1, -1, 2, -2, 3, -4, 1023, -1024, 2047, -2047, 2048])
def test_magnitude(value: int) -> None:
    size, extra = entropy.magnitude(value)
    assert size == abs(value).bit_length()
    assert 0 <= extra < max(1, 1 << size)
    assert (extra if value > 0 else extra - (1 << size) + 1) == value


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9), st.booleans()), min_size=1, max_size=12))
def test_splice_copies_bits(parts: list[tuple[int, int, bool]]) -> None:
    """Parts of a bit string, some of its bits left out after each, with a restart marker or without."""
    generator = np.random.default_rng(len(parts))
    total = sum(length + gap for length, gap, _ in parts)
    text = "".join("1" if draw < 0.9 else "0" for draw in generator.random(total))  # many FF bytes
    padded = text + "0" * (-total % 8)
    bits = np.zeros(len(padded) // 8 + bitstream.PADDING, np.uint8)
    bits[: len(padded) // 8] = [int(padded[at : at + 8], 2) for at in range(0, len(padded), 8)]
    events = []
    wanted: list[bytes] = []
    open_bits, at = "", 0
    for place, (length, gap, restarts) in enumerate(parts):
        restarts = restarts or place == len(parts) - 1
        events.append((at + length, at + length + gap, entropy.RESTART if restarts else entropy.JOIN, 0))
        open_bits += text[at : at + length]
        at += length + gap
        if restarts:
            open_bits += "1" * (-len(open_bits) % 8)
            coded = bytes(int(open_bits[byte : byte + 8], 2) for byte in range(0, len(open_bits), 8))
            last = place == len(parts) - 1
            wanted.append(coded.replace(b"\xff", b"\xff\0") + bytes((0xFF, 0xD9 if last else 0xD0 + len(wanted) % 8)))
            open_bits = ""
    out = np.full(2 * len(bits) + 16 * (len(parts) + 1) + 3, 77, np.uint8)
    tiles = np.zeros(len(wanted), np.uint32)
    tables = huffman.CodeTables()
    status, end = entropy.splice(bits, np.array(events), len(events), tables.lengths, tables.codes, out, 3, tiles)
    assert status == bitstream.OK
    assert out[3:end].tobytes() == b"".join(wanted)
    assert tiles.tolist() == [len(part) for part in wanted]
    assert out[:3].tolist() == [77, 77, 77]


def test_scan_follows_dc_over_long_codes_and_full_blocks() -> None:
    """Tables whose codes are all longer than a look, and blocks with all of 64 coefficients, through both ways."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 256), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=100)
    source = file.getvalue()
    header = jpeg.read_header(source)
    # the same symbols, in codes of 13 bits at least
    table = header.huffman_tables[4]
    long = _definition({13: 100, 16: len(table) - 116}, list(table[16:]))
    tables = huffman.HuffmanTables()
    assert tables.define(4, long) and tables.define(0, header.huffman_tables[0])
    recoded = _recoded(source, header, tables, long)
    for optimize in (False, True):
        out = jpeg.Transcoder(optimize=optimize).transcode(recoded)
        for other in (recoded, out.encoded):
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(other))), np.asarray(Image.open(io.BytesIO(source))))


def _recoded(source: bytes, header: jpeg.Header, new: huffman.HuffmanTables, new_table: bytes) -> bytes:
    """A grey JPEG with another AC table, bit by bit."""
    old = huffman.HuffmanTables()
    assert all(old.define(table, definition) for table, definition in header.huffman_tables.items())
    data = source[header.header_bytes : -2].replace(b"\xff\0", b"\xff")
    text = "".join(f"{byte:08b}" for byte in data) + "0" * 64
    at, bits = 0, ""
    for _ in range(header.grid[0] * header.grid[1]):
        place = 0
        while place < 64:
            table = 4 if place else 0
            coming = np.uint64(int(text[at : at + 64], 2))
            found = int(huffman.symbol_of(coming, old.limits[table], old.offsets[table], old.symbols[table]))
            symbol, length = found >> 8, found & 255
            extra = text[at + length : at + length + (symbol & 15)]
            bits += f"{new.codes[table, symbol]:0{new.lengths[table, symbol]}b}" + extra
            at += length + len(extra)
            place = 64 if table and symbol == 0 else place + 1 + (symbol >> 4 if table else 0)
    bits += "1" * (-len(bits) % 8)
    coded = bytes(int(bits[byte : byte + 8], 2) for byte in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    old_table = header.huffman_tables[4]
    assert len(old_table) == len(new_table) and source.count(old_table) == 1
    return source[: header.header_bytes].replace(old_table, new_table) + coded + b"\xff\xd9"
