"""The GPU's decoder of tiles against the CPU's: pixels bit for bit, the same judgement of damage, no memory touched beside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from deit_fast.kernels.cuda import driver, jpeg_bits, jpeg_pixels, jpeg_samples
from deit_fast.kernels.jpeg import tiles
from deit_fast.kernels.jpeg.decode_window import OK
from tests.guarded import GuardedMemory
from tests.kernels.cuda.compiled_here import compiled_here
from tests.kernels.cuda.devices import on_devices
from tests.kernels.cuda.jpeg_batch import NAMES, Batch, Window, whole
from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel, needs_compiler
from tests.kernels.jpeg.stored import KINDS, Stored, decode, indexed_anew, mutated_bytes, noise, stored_of
from tests.scale import scaled

MODULES = "jpeg", "jpeg_bits", "jpeg_samples", "jpeg_pixels"
SIDES = {"cpu": [(17, 29), (9, 40)], "cuda": [(375, 500), (1, 5), (500, 375), (99, 640), (33, 388), (1200, 900)]}


def compare(windows: list[Window], device: str, module: object = None) -> Counter[str]:
    """Compares a batch with the CPU's decoder; how many were right, damaged, and left to the host."""
    batch = Batch(windows)
    return judged(batch, *batch.decode(device, *([module] if module else [])))


def judged(batch: Batch, statuses: np.ndarray, images: list[np.ndarray]) -> Counter[str]:
    """Compares what a batch was decoded to with the CPU's decoder: statuses, and pixels where they are wanted."""
    outcomes: Counter[str] = Counter()
    for number, window in enumerate(batch.windows):
        status, pixels = decode(window.stored, window.block, window.need)
        is_taken = not batch.refused[number] and statuses[number] == 0
        is_refused = bool(batch.refused[number])
        assert status != OK if is_refused else statuses[number] == status, (number, status, statuses[number], is_refused)
        outcomes["taken" if is_taken else "refused" if is_refused else "found bad"] += 1
        if is_taken:
            top, left, _, _ = tiles.pixels_of(window.stored.grid, window.block)
            y0, y1, x0, x1 = window.need
            part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            np.testing.assert_array_equal(images[number][part], pixels[part], err_msg=str(number))
    return outcomes


def some_window(stored: Stored, generator: np.random.Generator) -> Window:
    """A window of random corners, in a block that is sometimes larger than it must be."""
    _, _, _, width, height = stored.grid
    y0, y1 = np.sort(generator.integers(0, height, 2))
    x0, x1 = np.sort(generator.integers(0, width, 2))
    need = int(y0), int(y1) + 1, int(x0), int(x1) + 1
    block = [int(place) for place in tiles.tiles_under(stored.grid, *need)]
    limits = (0, stored.tile_rows, 0, stored.tile_columns)
    for side in range(4):
        if generator.integers(0, 3) == 0:
            block[side] = limits[side]
    return Window(stored, tuple(block), need)


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the simulator each thread of a block is one of Python."""
    if driver.SIMULATED:
        for module in (jpeg_samples, jpeg_pixels):
            monkeypatch.setattr(module, "THREADS", 32)
            monkeypatch.setattr(module, "PARTS", 2)


@on_devices
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_cpus(kind: str, device: str) -> None:
    jpegs = [stored_of(noise(seed, *sides, kind, 85), optimize=seed % 2 == 0) for seed, sides in enumerate(SIDES[device])]
    generator = np.random.default_rng(1)
    outcomes = compare([*map(whole, jpegs), *(some_window(jpeg, generator) for jpeg in jpegs)], device)
    assert outcomes["taken"] >= len(jpegs)


@pytest.mark.slow
def test_windows_of_all_kinds_and_qualities_compiled_for_this_processor() -> None:
    module = compiled_here(*MODULES)
    generator = np.random.default_rng(2)
    windows = []
    for seed in range(scaled(2000, 200)):
        sides = int(generator.integers(1, 300)), int(generator.integers(1, 600))
        encoded = noise(seed, *sides, KINDS[seed % 4], int(generator.integers(1, 101)))
        stored = stored_of(encoded, optimize=seed % 3 == 0, length_bytes=2 + 2 * (seed % 2))
        windows += [whole(stored), some_window(stored, generator)]
    outcomes = compare(windows, "cpu", module)
    assert outcomes["taken"] > 0.9 * len(windows)


@pytest.mark.slow
@pytest.mark.parametrize("is_indexed_anew", [True, False])
def test_mutated_jpegs_compiled_for_this_processor(is_indexed_anew: bool) -> None:
    """Taken where the CPU takes them, with its pixels; what it refuses is found by the host or by the kernels."""
    module = compiled_here(*MODULES)
    generator = np.random.default_rng(3)
    originals = [
        stored_of(noise(seed, 70, 270, kind, quality), optimize=seed % 2 == 0)
        for seed, kind in enumerate(KINDS * 2)
        for quality in (30, 95)
    ]
    windows = []
    for number in range(scaled(5000, 500)):
        stored, other = originals[number % len(originals)], originals[int(generator.integers(0, len(originals)))]
        changed = mutated_bytes(stored.encoded, stored.header_bytes, other.encoded[: other.header_bytes], generator)
        mutated = indexed_anew(stored, changed) if is_indexed_anew else replace(stored, encoded=changed)
        if mutated is None:
            continue
        windows += [whole(mutated), some_window(mutated, generator)]
    outcomes = compare(windows, "cpu", module)
    assert min(outcomes["taken"], outcomes["found bad"], 5 * outcomes["refused"]) >= 15, outcomes


def decode_mutated(count: int, seed: int) -> str:
    """Decodes mutated JPEGs, half of them with the index of their own tiles, each in guarded memory of its own."""
    module = compiled_here(*MODULES)
    memory = {name: GuardedMemory(1 << 20) for name in NAMES}
    generator = np.random.default_rng(seed)
    originals = [stored_of(noise(seed, 70, 270, kind, 80), optimize=seed % 2 == 0) for seed, kind in enumerate(KINDS * 2)]
    outcomes: Counter[str] = Counter()
    while outcomes.total() < count:
        stored, other = (originals[number] for number in generator.integers(0, len(originals), 2))
        changed = mutated_bytes(stored.encoded, stored.header_bytes, other.encoded[: other.header_bytes], generator)
        is_indexed_anew = generator.integers(0, 2) == 0
        mutated = indexed_anew(stored, changed) if is_indexed_anew else replace(stored, encoded=changed)
        if mutated is not None:
            batch = Batch([whole(mutated) if generator.integers(0, 2) == 0 else some_window(mutated, generator)])
            outcomes += judged(batch, *batch.decode_guarded(module, memory))
    return json.dumps(outcomes)


@pytest.mark.slow
def test_mutated_jpegs_in_guarded_memory() -> None:
    """Of 10,000 each had the CPU's status, and its pixels if it was sound; no access left its memory."""
    # a process of its own: an access outside ends it
    count = scaled(10_000)
    code = f"from tests.kernels.cuda.test_jpeg import decode_mutated; print(decode_mutated({count}, 4))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    print(outcomes)
    assert sum(outcomes.values()) == count
    assert min(outcomes["taken"], outcomes["found bad"], 5 * outcomes["refused"]) >= count / 40, outcomes


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_compiler_keeps_all_in_registers(capability: tuple[int, int]) -> None:
    from numba.cuda import types

    encoded, words, coefficients = types.uint8[::1], types.int32[::1], types.int16[::1]
    table, number = types.int64[:, ::1], types.int64
    arguments = {
        jpeg_bits._decode_tiles: (encoded, words, table, table, words, coefficients, words),
        jpeg_samples._transform: (encoded, table, number, coefficients, words, words),
        jpeg_pixels._show: (table, number, encoded, encoded),
    }
    for kernel, types_of in arguments.items():
        compiled = compile_kernel(kernel, types_of, capability)
        assert (compiled.local_bytes, compiled.num_fused, compiled.num_float64) == (0, 0, 0)
        assert compiled.spill_bytes in (None, 0)
        assert compiled.registers is None or compiled.registers <= 64
        assert compiled.shared_bytes <= 20 * 1024
