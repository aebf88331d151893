"""What a batch sends to the device: tables against JPEGs read by hand, refusals against the CPU's decoder, memory beside."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deit_fast.kernels import crop, decode, gather, resample, rng
from deit_fast.kernels.jpeg import device_tables as there
from deit_fast.kernels.jpeg import tiles
from deit_fast.kernels.jpeg.decode_window import OK
from tests.guarded import GuardedMemory
from tests.kernels.jpeg import decoded_by_cpu, stored
from tests.kernels.jpeg.stored import KINDS, Stored, mutated_bytes, noise, stored_of
from tests.scale import scaled

GUARD = 64
Need = tuple[int, int, int, int]  # first row, end, first column, end


@dataclass(eq=False)
class Sent:
    """What `gather` makes of JPEGs, one view of each."""

    totals: gather.Totals
    jobs: NDArray[np.int64]
    encoded: torch.Tensor
    jpegs: torch.Tensor
    tiles: torch.Tensor
    pixels: torch.Tensor
    statuses: torch.Tensor


def row_of(image: Stored, address: int, lengths_start: int) -> list[int]:
    """The row of `decode`'s table of stored images."""
    interval, mcu_width, mcu_height, width, height = image.grid
    num_tiles = len(image.lengths) // image.length_bytes
    where = [address, len(image.encoded), decode.JPEG_MODE, height, width, lengths_start, num_tiles, image.length_bytes]
    return [*where, interval, image.header_bytes, mcu_width, mcu_height]


def plans_of(needs: Sequence[Need]) -> NDArray[np.int64]:
    """Views of one pixel, the mean of those that are needed."""
    plans = np.zeros((len(needs), crop.PLAN_LENGTH), np.int64)
    for plan, (y0, y1, x0, x1) in zip(plans, needs, strict=True):
        plan[:6] = y0, x0, y1 - y0, x1 - x0, 1, 1
    return plans


def sent(images: Sequence[Stored], needs: Sequence[Need], addresses: Sequence[int] | None = None) -> Sent:
    """Plans and gathers; memory beside what is planned must stay as it is. addresses: of the JPEGs, if they lie elsewhere."""
    contents = [np.frombuffer(image.encoded, np.uint8) for image in images]
    if addresses is None:
        addresses = [content.ctypes.data for content in contents]
    lengths = np.frombuffer(b"".join(image.lengths for image in images), np.uint8)
    starts = np.cumsum([0, *(len(image.lengths) for image in images)]).tolist()
    rows = [row_of(image, address, start) for image, address, start in zip(images, addresses, starts, strict=False)]
    count = len(images)
    ids, table = rng.pack_view_ids(0, np.arange(count), np.zeros(count, np.int64)), np.array(rows, np.int64)
    where = table, 0, (lengths.ctypes.data, len(lengths))
    jobs, jpegs = np.full((count, gather.JOB_LENGTH), -7), np.full((count, there.JPEG_LENGTH), -7)
    how = np.int64(resample.BOX), np.int64(1), np.zeros(count, bool), np.int64(2**62), 2
    planned = gather.plan_jobs(ids, *where, plans_of(needs), *how, jobs, jpegs)
    totals = gather.Totals(*planned)
    encoded, pixels = np.full(totals.encoded + 2 * GUARD, 77, np.uint8), np.full(2 * GUARD, 78, np.uint8)
    of_tiles = np.full((totals.tiles + 2, there.TILE_LENGTH), -9)
    inner = encoded[GUARD:-GUARD], of_tiles[1:-1], pixels[GUARD:-GUARD]
    gather.gather(*where, jobs[: totals.jobs], jpegs, 2, *inner)
    assert (encoded[:GUARD] == 77).all()
    assert (encoded[-GUARD:] == 77).all()
    assert (of_tiles[[0, -1]] == -9).all()
    assert (pixels == 78).all()
    own_encoded, own_jpegs, own_tiles = (torch.from_numpy(array.copy()) for array in (inner[0], jpegs, inner[1]))
    made, statuses = torch.zeros(totals.pixels, dtype=torch.uint8), torch.zeros(count, dtype=torch.int32)
    return Sent(totals, jobs, own_encoded, own_jpegs, own_tiles, made, statuses)


def ends_of_tiles(image: Stored) -> list[int]:
    """Behind each restart marker, and behind the end marker, found by their bytes."""
    data = image.encoded[image.header_bytes :]
    return [image.header_bytes + found.end() for found in re.finditer(rb"\xff[\xd0-\xd9]", data)]


def test_the_tables_of_a_window_in_420() -> None:
    """Three rows of two tiles of eight MCUs; wanted are rows 17 to 30 and columns 120 to 139, and chroma beside them."""
    image = stored_of(noise(1, 48, 256, "4:2:0", 80))
    assert image.grid == (8, 16, 16, 256, 48)
    made = sent([image], [(17, 31, 120, 140)])
    assert made.totals == (1, 1, 2, 2 * 8 * 6, made.totals.encoded, 0, 0, 3 * 16 * 256)
    job, row = made.jobs[0], made.jpegs[0].numpy()
    ends = ends_of_tiles(image)
    size = image.header_bytes + ends[3] - ends[1]
    assert job[gather.WINDOW : gather.WINDOW + 4].tolist() == [16, 0, 16, 256]
    assert (job[gather.IS_TAKEN], job[gather.START], job[gather.SIZE]) == (1, 0, size)
    assert made.totals.encoded == -(-size // 64) * 64
    assert row[: there.CODES].tolist() == [0, 1, 2, 8, 2, 2, 3, 16, 256]
    # luma: two rows of blocks, columns 120 to 139; chroma: rows 0 to 7, columns 59 to 70
    assert row[there.WANTED :].tolist() == [0, 2, 15, 18, 0, 1, 7, 9]
    assert row[there.FIRST_BLOCK : there.WANTED].tolist() == [0, 0, 0]
    assert row[there.SELECTED] == 0b110
    # JFIF from byte 2 on, DQT of 132 bytes from 20, frame of 17 from 154, DHT of 418 from 173: the standard tables, both
    # DC of 12 symbols, then both AC of 162, behind class and number and 16 counts; restart interval from 593, scan from 599
    assert image.header_bytes == 599 + 2 + 12
    assert row[there.CODES : there.CODES + 4].tolist() == [178, 236, 207, 415]
    assert row[there.FACTORS : there.FACTORS + 3].tolist() == [24, 89, 89]
    first = image.header_bytes
    second = first + ends[2] - ends[1]
    assert made.tiles.numpy().tolist() == [[0, first, second - 2, 8, 1], [0, second, size - 2, 1, 0]]
    encoded = made.encoded.numpy()[:size].tobytes()
    assert encoded == image.encoded[: image.header_bytes] + image.encoded[ends[1] : ends[3]]


def test_the_tables_of_grey_windows_beside_each_other() -> None:
    """Of a grey JPEG of two rows of two tiles of sixteen MCUs: the lower right tile alone, and all."""
    image = stored_of(noise(2, 16, 256, "grey", 80), length_bytes=2)
    assert image.grid == (16, 8, 8, 256, 16)
    made = sent([image, image], [(8, 9, 128, 137), (0, 16, 0, 256)])
    assert made.totals[:4] == (2, 2, 5, 5 * 16)
    first, second = made.jpegs.numpy()
    assert first[: there.CODES].tolist() == [0, 1, 1, 16, 1, 1, 1, 8, 128]
    assert second[: there.CODES].tolist() == [1, 2, 2, 16, 1, 1, 1, 16, 256]
    assert first[there.WANTED :].tolist() == [0, 1, 0, 2, 0, 0, 0, 0]
    assert second[there.FIRST_BLOCK : there.WANTED].tolist() == [16, 16 * 64, 3 * 8 * 128]
    for row, start in ((first, 0), (second, made.jobs[1, gather.START])):
        assert start % 64 == 0
        assert row[there.SELECTED] == 0
        assert (row[there.CODES : there.CODES + 2] > start).all()
        assert row[there.CODES + 2 : there.CODES + 4].tolist() == [-1, -1]
        assert row[there.FACTORS + 1 : there.FACTORS + 3].tolist() == [-1, -1]
    table = made.tiles.numpy()
    assert table[:, there.JPEG].tolist() == [0, 1, 1, 1, 1]
    assert table[:, there.NUM_MCUS].tolist() == [2, 16, 16, 16, 16]
    assert table[:, there.IS_WHOLE].tolist() == [0, 1, 1, 1, 1]
    ends = [image.header_bytes, *ends_of_tiles(image)]
    encoded = made.encoded.numpy()
    for entry, tile in zip(table, (3, 0, 1, 2, 3), strict=True):
        bits = encoded[entry[there.START] : entry[there.END]].tobytes()
        assert bits == image.encoded[ends[tile] : ends[tile + 1] - 2]


def test_what_the_tables_cannot_say_is_left() -> None:
    image = stored_of(noise(3, 40, 256, "4:2:0", 80))
    scan = image.header_bytes - 9  # component and tables three times, then three bytes
    assert image.encoded[scan : scan + 6] == b"\1\0\2\x11\3\x11"
    three_pairs = image.encoded[: scan + 5] + b"\x01" + image.encoded[scan + 6 :]
    frame = image.encoded.index(b"\xff\xc0")
    progressive = image.encoded[: frame + 1] + b"\xc2" + image.encoded[frame + 2 :]
    others = [replace(image, encoded=content) for content in (three_pairs, progressive)]
    untiled = replace(image, grid=(0, 0, 0, 256, 40))
    narrow = stored_of(noise(3, 40, 4, "4:2:0", 80))
    made = sent([*others, image, untiled, narrow], [(0, 40, 0, 200)] * 4 + [(0, 40, 0, 4)])
    assert made.jobs[:, gather.IS_TAKEN].tolist() == [0, 0, 1, 0, 0]
    assert made.totals.jpegs == 1
    assert made.jobs[:, gather.IS_JPEG].all()
    assert made.jobs[2, gather.JPEG] == 0
    assert made.jpegs[0, there.FIRST_TILE] == 0


def judged(images: Sequence[Stored], needs: Sequence[Need], memory: GuardedMemory | None = None) -> Counter[str]:
    """Compares host and device, as the CPU does its work, with the CPU's decoder: its status, and pixels where they are good.

    memory: from which each JPEG is read alone.
    """
    batches = [(images, needs)] if memory is None else [([one], [need]) for one, need in zip(images, needs, strict=True)]
    outcomes: Counter[str] = Counter()
    for some, wanted in batches:
        addresses = None if memory is None else [memory.put(some[0].encoded)]
        made = sent(some, wanted, addresses)
        decoded_by_cpu.decode_tiles(made, made.totals)
        for image, need, job in zip(some, wanted, made.jobs, strict=True):
            block = tuple(int(place) for place in tiles.tiles_under(image.grid, *need))
            status, pixels = stored.decode(image, block, need)
            is_sent = job[gather.SIZE] > 0
            is_good = job[gather.IS_TAKEN] == 1 and made.statuses[job[gather.JPEG]] == 0
            assert is_good == (status == OK), (status, job.tolist())
            outcomes["good" if is_good else "bad there" if job[gather.IS_TAKEN] else "bad markers" if is_sent else "left"] += 1
            if is_good:
                start = int(made.jpegs[job[gather.JPEG], there.FIRST_PIXEL])
                own = made.pixels.numpy()[start : start + pixels.size].reshape(pixels.shape)
                top, left = job[gather.WINDOW : gather.WINDOW + 2]
                part = np.s_[need[0] - top : need[1] - top, need[2] - left : need[3] - left]
                np.testing.assert_array_equal(own[part], pixels[part])
    return outcomes


def some_need(image: Stored, generator: np.random.Generator) -> Need:
    _, _, _, width, height = image.grid
    y0, y1 = np.sort(generator.integers(0, height, 2)).tolist()
    x0, x1 = np.sort(generator.integers(0, width, 2)).tolist()
    return y0, y1 + 1, x0, x1 + 1


def mutated(count: int, seed: int) -> tuple[list[Stored], list[Need]]:
    generator = np.random.default_rng(seed)
    originals = [stored_of(noise(number, 60, 270, kind, 60), optimize=number % 2 == 0) for number, kind in enumerate(KINDS * 2)]
    images = []
    for number in range(count):
        image, other = originals[number % len(originals)], originals[int(generator.integers(0, len(originals)))]
        content = mutated_bytes(image.encoded, image.header_bytes, other.encoded[: other.header_bytes], generator)
        images.append(replace(image, encoded=content))
        if generator.random() < 0.1:  # lengths of another
            images[-1] = replace(images[-1], lengths=np.frombuffer(image.lengths, "<u4")[::-1].tobytes())
    return images, [some_need(image, generator) for image in images]


def test_sound_windows_are_decoded_as_on_the_cpu() -> None:
    generator = np.random.default_rng(4)
    sides = [(int(generator.integers(1, 100)), int(generator.integers(5, 420))) for _ in range(scaled(80, 24))]
    images = [stored_of(noise(seed, *one, KINDS[seed % 4], 75)) for seed, one in enumerate(sides)]
    assert judged(images, [some_need(image, generator) for image in images]) == {"good": len(images)}


def test_mutated_jpegs_are_judged_as_on_the_cpu() -> None:
    outcomes = judged(*mutated(scaled(800, 100), seed=5))
    assert min(outcomes[kind] for kind in ("good", "bad there", "bad markers", "left")) >= 3, outcomes


def judge_guarded(count: int) -> None:
    images, needs = mutated(count, seed=6)
    print(dict(judged(images, needs, GuardedMemory(max(len(image.encoded) for image in images)))))


@pytest.mark.slow
def test_nothing_outside_a_mutated_jpeg_is_read() -> None:
    # a process of its own: a read outside the bytes ends it
    code = f"from tests.kernels.test_gather import judge_guarded; judge_guarded({scaled(2000, 200)})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "good" in result.stdout
