"""Progressive JPEGs as our own decoder reads them, against the coefficients of libjpeg, and with changed bytes."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from deit_fast.data.convert.transcode import progressive as reading
from deit_fast.data.convert.transcode.tile_writer import Scratch
from deit_fast.kernels.jpeg import bitstream, progressive
from deit_fast.kernels.jpeg.progressive_scans import ZIGZAG
from tests.guarded import GuardedMemory
from tests.scale import scaled

needs_jpegtran = pytest.mark.skipif(shutil.which("jpegtran") is None, reason="libjpeg-turbo-progs is not installed")


def _noisy(height: int, width: int, grey: bool = False, seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    image = Image.fromarray(np.clip(smooth + generator.normal(0, 9, smooth.shape), 0, 255).astype(np.uint8))
    return image.convert("L") if grey else image


def _saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", progressive=True, **options)
    return file.getvalue()


def _jpegtran(encoded: bytes, *arguments: str) -> bytes:
    return subprocess.run(["jpegtran", *arguments], input=encoded, capture_output=True, check=True).stdout


def _pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def _read(encoded: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    found = reading.read_progressive(encoded, jpeg.read_header(encoded), Scratch())
    return None if found is None else (found.values, found.masks)


def _sequential_coefficients(encoded: bytes) -> np.ndarray:
    """(blocks, 64) of a baseline JPEG of one scan, zigzag order, by a decoder of a few lines."""
    header = jpeg.read_header(encoded)
    assert header.process == 0xC0
    data = encoded[header.header_bytes : -2].replace(b"\xff\x00", b"\xff")
    text = "".join(f"{byte:08b}" for byte in data)
    codes = {}
    for number, definition in header.huffman_tables.items():
        code, place = 0, 16
        for length in range(1, 17):
            for _ in range(definition[length - 1]):
                codes[number, f"{code:0{length}b}"] = definition[place]
                code, place = code + 1, place + 1
            code <<= 1
    at = 0

    def symbol(table: int) -> int:
        nonlocal at
        for length in range(1, 17):
            found = codes.get((table, text[at : at + length]))
            if found is not None:
                at += length
                return found
        raise AssertionError

    def value(size: int) -> int:
        nonlocal at
        bits, at = text[at : at + size], at + size
        return 0 if size == 0 else int(bits, 2) - (0 if bits[0] == "1" else (1 << size) - 1)

    before = [0] * len(header.components)
    blocks = []
    for _ in range(header.grid[0] * header.grid[1]):
        for component, dc, ac in header.blocks.tolist():
            block = np.zeros(64, np.int16)
            before[component] += value(symbol(dc))
            block[0] = before[component]
            k = 1
            while k < 64:
                found = symbol(ac)
                if found == 0:
                    break
                k += found >> 4
                block[k] = value(found & 15)
                k += 1
            blocks.append(block)
    return np.array(blocks)


def _padding_left_out(encoded: bytes, blocks: np.ndarray) -> np.ndarray:
    """Those blocks that hold samples of the image: an encoder may write anything into the others."""
    header = jpeg.read_header(encoded)
    sampling = [(c.horizontal, c.vertical) if len(header.components) > 1 else (1, 1) for c in header.components]
    size = header.width, header.height
    order = np.empty(len(blocks), np.int64)
    found = []
    for component in range(len(sampling)):
        count = progressive.blocks_of(component, np.array(sampling, np.int64), header.grid, *size, order)
        found.append(blocks[order[:count]])
    return np.concatenate(found)


_SCRIPTS = {
    "of libjpeg": None,
    "no successive approximation": "0,1,2: 0-0, 0, 0; 2: 1-63, 0, 0; 0: 1-9, 0, 0; 1: 1-63, 0, 0; 0: 10-63, 0, 0;",
    "components apart": "0: 0-0, 0, 1; 1: 0-0, 0, 0; 2: 0-0, 0, 2; 2: 0-0, 2, 1; 0: 0-0, 1, 0; 2: 0-0, 1, 0; "
    "0: 1-63, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0;",
    "bit by bit": "0,1,2: 0-0, 0, 3; 0: 1-63, 0, 3; 1: 1-63, 0, 3; 2: 1-63, 0, 3; 0: 1-63, 3, 2; 1: 1-63, 3, 2; 2: 1-63, 3, 2; "
    "0,1,2: 0-0, 3, 2; 0: 1-63, 2, 1; 1: 1-63, 2, 1; 2: 1-63, 2, 1; 0,1,2: 0-0, 2, 1; 0: 1-63, 1, 0; 1: 1-63, 1, 0; "
    "2: 1-63, 1, 0; 0,1,2: 0-0, 1, 0;",
}


@needs_jpegtran
@pytest.mark.parametrize("script", list(_SCRIPTS))
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("restart", ["0", "1", "7B"])
@pytest.mark.parametrize("quality", [60, 98])
def test_coefficients_are_those_of_libjpeg(tmp_path: Path, script: str, subsampling: str, restart: str, quality: int) -> None:
    source = io.BytesIO()
    _noisy(70, 90).save(source, "JPEG", quality=quality, subsampling=subsampling)
    arguments = ["-restart", restart, "-progressive"]
    text = _SCRIPTS[script]
    if text is not None:
        (tmp_path / "scans").write_text(text)
        arguments = ["-restart", restart, "-scans", str(tmp_path / "scans")]
    encoded = _jpegtran(source.getvalue(), *arguments)
    found = _read(encoded)
    assert found is not None
    values, masks = found
    wanted = _sequential_coefficients(source.getvalue())
    ours, theirs = (_padding_left_out(encoded, blocks) for blocks in (values[:, ZIGZAG], wanted))
    np.testing.assert_array_equal(ours, theirs)
    bits = masks[:, None] >> np.arange(1, 64, dtype=np.uint64) & np.uint64(1)
    np.testing.assert_array_equal(bits.astype(bool), values[:, ZIGZAG[1:]] != 0)


@needs_jpegtran
@pytest.mark.parametrize("script", list(_SCRIPTS))
def test_blocks_with_more_bits_to_refine_than_a_word_is_sure_to_hold(tmp_path: Path, script: str) -> None:
    source = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(
        source, "JPEG", quality=100, subsampling="4:4:4"
    )
    text = _SCRIPTS[script]
    if text is not None:
        (tmp_path / "scans").write_text(text)
    encoded = _jpegtran(source.getvalue(), *(["-progressive"] if text is None else ["-scans", str(tmp_path / "scans")]))
    found = _read(encoded)
    assert found is not None
    wanted = _sequential_coefficients(source.getvalue())
    assert (np.abs(wanted[:, 1:]) >= 2).sum(axis=1).max() == 63
    np.testing.assert_array_equal(found[0][:, ZIGZAG], wanted)


@needs_jpegtran
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 31), (33, 127), (375, 500)])
def test_tiles_of_progressive_jpegs_are_those_of_jpegtran(subsampling: str, size: tuple[int, int]) -> None:
    """As TurboJPEG turned them into sequential ones, with libjpeg's blocks of padding."""
    source = _saved(_noisy(*size), quality=90, subsampling=subsampling)
    transcoder = jpeg.Transcoder(optimize=False)
    out = transcoder.transcode(source)
    assert out.way == "coefficients"
    by_libjpeg = transcoder.transcode(_jpegtran(source, "-optimize"))
    np.testing.assert_array_equal(_pixels(out.encoded), _pixels(by_libjpeg.encoded))
    optimized = jpeg.Transcoder(optimize=True).transcode(_jpegtran(source, "-optimize"))
    start, other_start = out.tiling.header_bytes, optimized.tiling.header_bytes
    assert out.encoded[start:] == optimized.encoded[other_start:]


@pytest.mark.parametrize("grey", [False, True])
def test_every_prefix_is_refused(grey: bool) -> None:
    source = _saved(_noisy(24, 40, grey), quality=70)
    header = jpeg.read_header(source)
    assert reading.read_progressive(source, header, Scratch()) is not None
    for end in range(header.header_bytes, len(source)):
        assert reading.read_progressive(source[:end], header, Scratch()) is None
        # scans that are whole, and an end: the rest was not sent
        if end < len(source) - 2:
            assert reading.read_progressive(source[:end] + b"\xff\xd9", header, Scratch()) is None


_ROOM = GuardedMemory(1 << 20), GuardedMemory(1 << 20), GuardedMemory(1 << 20), GuardedMemory(1 << 20)


def _read_guarded(encoded: bytes, header: jpeg.Header) -> int:
    """The status, where neither the file nor what is written may be left by a byte."""
    memory, bits_memory, value_memory, mask_memory = _ROOM
    grid = header.grid
    num_blocks = grid[0] * grid[1] * len(header.blocks)
    data = memory.array(len(encoded), np.uint8)
    data[:] = np.frombuffer(encoded, np.uint8)
    data.flags.writeable = False  # as bytes are: for others all would be compiled again
    sampling = [(c.horizontal, c.vertical) if len(header.components) > 1 else (1, 1) for c in header.components]
    return int(
        progressive.read_scans(
            data,
            np.array([c.identifier for c in header.components], np.uint8),
            np.array(sampling, np.int64),
            grid,
            (header.width, header.height),
            bits_memory.array(len(encoded) + bitstream.PADDING, np.uint8, fill=0xAA),
            value_memory.array((num_blocks, 64), np.int16),
            mask_memory.array(num_blocks, np.uint64),
        )
    )


@pytest.mark.parametrize("restart", [0, 2])
@pytest.mark.parametrize("grey", [False, True])
def test_mutated_bytes(grey: bool, restart: int) -> None:
    """Bytes changed, left out, and said twice: refused, or read with the pixels that libjpeg shows without a warning.

    All of it has shown 40,000 mutants.
    """
    source = _saved(_noisy(24, 40, grey), quality=85, restart_marker_blocks=restart)
    start = jpeg.read_header(source).header_bytes
    generator = np.random.default_rng(restart + grey)
    transcoder = jpeg.Transcoder(optimize=False)
    for _ in range(scaled(10000, 100)):
        mutant = bytearray(source)
        for _ in range(generator.integers(1, 4)):
            place = int(generator.integers(2 if generator.random() < 0.2 else start, len(mutant)))
            kind = generator.random()
            if kind < 0.7:
                mutant[place] = generator.integers(0, 256)
            elif kind < 0.85:
                del mutant[place : place + int(generator.integers(1, 9))]
            else:
                mutant[place:place] = mutant[place : place + int(generator.integers(1, 40))]
        encoded = bytes(mutant)
        try:
            header = jpeg.read_header(encoded)
        except jpeg.NotTranscodable:
            continue
        if header.process != 0xC2 or header.width * header.height > 1 << 14:
            continue
        if _read_guarded(encoded, header) != bitstream.OK:
            continue
        try:
            out = transcoder.transcode(encoded)
        except jpeg.NotTranscodable:
            continue
        np.testing.assert_array_equal(_pixels(out.encoded), _pixels(encoded))
