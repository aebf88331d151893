"""The walk from two places against the walk from one: the same events, for sound scans and for damaged ones."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from deit_fast.data.convert.transcode.standard_tables import STANDARD_TABLES
from deit_fast.kernels.jpeg import bitstream, entropy, huffman, scan_halves
from tests.guarded import GuardedMemory
from tests.scale import scaled

_EVENTS, _STARTS, _BITS = GuardedMemory(1 << 20), GuardedMemory(1 << 20), GuardedMemory(1 << 20)


def _saved(height: int, width: int, grey: bool, noise: float, **options: object) -> bytes:
    generator = np.random.default_rng(height + 1000 * width)
    coarse = generator.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    image = Image.fromarray(np.clip(smooth + generator.normal(0, noise, smooth.shape), 0, 255).astype(np.uint8))
    file = io.BytesIO()
    (image.convert("L") if grey else image).save(file, "JPEG", **options)
    return file.getvalue()


def _events(encoded: bytes) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Of both ways; None where a way refuses."""
    header = jpeg.read_header(encoded)
    tables = huffman.HuffmanTables()
    for number, definition in (STANDARD_TABLES | header.huffman_tables).items():
        assert tables.define(number, definition)
    bits = np.empty(len(encoded) + bitstream.PADDING, np.uint8)
    source = np.frombuffer(encoded, np.uint8)
    status, num_bytes, *_ = bitstream.unstuff(source, header.header_bytes, bits, np.empty(0, np.int64))
    if status != bitstream.OK:
        return None, None
    num_mcus = header.grid[0] * header.grid[1]
    interval = jpeg.restart_interval(header.grid[0], header.mcu[0])
    rows = tables.single, tables.steps, tables.limits, tables.offsets, tables.symbols
    most = (1 + len(header.components)) * (num_mcus // interval) + 1
    guarded = _BITS.array(num_bytes + bitstream.PADDING, np.uint8)
    guarded[:] = bits[: len(guarded)]
    found = []
    for halves in (True, False):
        events = _EVENTS.array((most, 4), np.int64)
        if halves:
            starts = _STARTS.array((2, num_mcus * len(header.blocks) + scan_halves.SLACK), np.int64)
            room = scan_halves.make_room()
            number = scan_halves.scan_halves(guarded, num_bytes, header.blocks, num_mcus, interval, rows, room, starts, events)
        else:
            starts, tokens = np.empty(num_mcus // interval + 1, np.int64), np.empty(1, np.uint32)
            resets = np.empty(0, np.int64)
            status, _, number = entropy.scan(
                guarded, num_bytes, resets, header.blocks, num_mcus, num_mcus, interval, rows, 0, tokens, starts, events
            )
            number = number if status == bitstream.OK else -1
        found.append(events[:number].copy() if number >= 0 else None)
    return found[0], found[1]


@given(
    height=st.one_of(st.integers(1, 50), st.sampled_from([127, 128, 129, 375])),
    width=st.one_of(st.integers(1, 50), st.sampled_from([127, 128, 129, 500])),
    quality=st.integers(1, 100),
    subsampling=st.integers(0, 2),
    grey=st.booleans(),
    optimize=st.booleans(),
    noise=st.sampled_from([0.0, 9.0, 100.0]),
)
@example(height=375, width=500, quality=95, subsampling=2, grey=False, optimize=False, noise=9.0)
@example(height=129, width=128, quality=100, subsampling=0, grey=False, optimize=True, noise=100.0)  # no ends of blocks
@settings(max_examples=scaled(500, 50), deadline=None)
def test_same_events(height: int, width: int, quality: int, subsampling: int, grey: bool, optimize: bool, noise: float) -> None:
    """All of it has shown 500 images."""
    encoded = _saved(height, width, grey, noise, quality=quality, subsampling=subsampling, optimize=optimize)
    halves, whole = _events(encoded)
    assert whole is not None
    if halves is not None:  # it may leave images of few bits to the other
        np.testing.assert_array_equal(halves, whole)


def test_photographs_are_walked_in_halves() -> None:
    for quality in (60, 75, 90, 98):
        for subsampling in (0, 1, 2):
            halves, whole = _events(_saved(375, 500, False, 9.0, quality=quality, subsampling=subsampling))
            assert halves is not None
            assert whole is not None
            np.testing.assert_array_equal(halves, whole)


def test_damaged_scans() -> None:
    """What one way refuses the other does not take; nothing outside the arrays is touched.

    All of it has shown 10,000 mutants.
    """
    sources = [_saved(64, 80, grey, 9.0, quality=80, subsampling=2) for grey in (False, True)]
    generator = np.random.default_rng(0)
    num_taken = 0
    for number in range(scaled(10000, 200)):
        source = sources[number % 2]
        mutant = bytearray(source)
        start = jpeg.read_header(source).header_bytes
        for _ in range(generator.integers(1, 4)):
            place = int(generator.integers(start, len(mutant) - 2))
            if generator.random() < 0.8:
                mutant[place] = generator.integers(0, 255)
            else:
                del mutant[place : place + int(generator.integers(1, 9))]
        halves, whole = _events(bytes(mutant))
        if halves is not None:
            num_taken += 1
            assert whole is not None
            np.testing.assert_array_equal(halves, whole)
    assert num_taken > 0
