"""Damaged JPEGs through decoder and loader: no crash, no hang, no read outside the bytes, each one reported."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.format import layout
from deit_fast.data.format.beton import open_beton
from deit_fast.data.format.index import read_index
from deit_fast.data.load.decode import Largest, Scratch, reason
from deit_fast.data.load.loader import train_loader
from deit_fast.kernels import crop, decode, resample
from tests.data.mutated import mutated_images, sample_rows, sound_images, write_images
from tests.data.planned import planned
from tests.guarded import GuardedMemory
from tests.pillows import resized
from tests.scale import scaled

RESOLUTION = 32
NUM_IMAGES = scaled(10_000)  # all of which passed: nothing was read outside, nothing else was decoded than Pillow decodes


def decode_all(num_images: int, seed: int) -> str:
    """Decodes mutated images from guarded memory, whole and by tiles; says how many were reported and how many passed."""
    contents, stated = mutated_images(num_images, seed)
    memory = GuardedMemory(max(map(len, contents)))
    reported = passed = 0
    view, statuses = np.empty((1, RESOLUTION, RESOLUTION, 3), np.uint8), np.empty(1, np.int32)
    generator = np.random.default_rng(seed)
    for content, image in zip(contents, stated, strict=True):
        rows, lengths = sample_rows([content], [image])
        # the image itself, its row and its tile lengths as a beton of one has them
        index = np.frombuffer(layout.tables(rows, 0, 0)[1], layout.INDEX_TYPE).copy()
        stated_lengths = np.frombuffer(lengths, np.uint8).copy()
        with_tiles = bool(generator.integers(0, 4))
        of_index = {decode.LENGTHS_START: "lengths_start", decode.NUM_TILES: "num_tiles", decode.LENGTH_BYTES: "length_bytes"}
        of_index |= {decode.INTERVAL: "interval", decode.HEADER_BYTES: "header_bytes"}
        of_index |= {decode.MCU_WIDTH: "mcu_width", decode.MCU_HEIGHT: "mcu_height"}
        stored = np.zeros((1, decode.STORED_LENGTH), np.int64)
        stored[0, :5] = memory.put(content), len(content), decode.JPEG_MODE, image.height, image.width
        for column, name in of_index.items():
            stored[0, column] = index[name][0] if with_tiles else 0
        where = (stated_lengths.ctypes.data, len(stated_lengths)) if with_tiles else (0, 0)
        scratch = Scratch(1, Largest(image.height, image.width, image.height * image.width, len(content)), RESOLUTION)
        ids = np.zeros(1, np.uint64)
        cropping = crop.cropping(crop.RANDOM, flip=0.5, scale=(0.1, 1.0), ratio=(0.5, 2.0))
        seed = int(generator.integers(0, 1 << 40))
        plans = planned(ids, np.array([image.height]), np.array([image.width]), cropping, RESOLUTION, seed)
        decode.decode_batch(ids, stored, 0, where, plans, resample.BICUBIC, 1, scratch.layout, view, statuses)
        if statuses[0]:
            assert reason(int(statuses[0]), np.frombuffer(content, np.uint8), 0, image.height, image.width)
            assert not view.any()
            reported += 1
        else:
            passed += 1
            if not with_tiles:
                _check_is_as_pillow_decodes(content, plans[0], view[0])
    return f"reported {reported} passed {passed}"


def _check_is_as_pillow_decodes(content: bytes, plan: np.ndarray, view: np.ndarray) -> None:
    """What passes has the pixels that these very bytes have in Pillow."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    top, left, height, width = (int(edge) for edge in plan[:4])
    box = Image.open(io.BytesIO(content)).convert("RGB").crop((left, top, left + width, top + height))
    want = np.asarray(resized(box, (RESOLUTION, RESOLUTION)))
    np.testing.assert_array_equal(view, want[:, ::-1] if plan[8] else want)


@pytest.mark.slow
def test_decoder_reports_or_decodes_mutated_images() -> None:
    # a process of its own: a read outside the bytes ends it
    code = f"from tests.data.load.test_mutated import decode_all; print(decode_all({NUM_IMAGES}, 0))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = re.search(r"reported (\d+) passed (\d+)", result.stdout)
    assert found
    reported, passed = map(int, found.groups())
    assert reported + passed == NUM_IMAGES
    assert reported > NUM_IMAGES // 2


@pytest.mark.slow
def test_loader_replaces_and_counts_mutated_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    contents, stated = mutated_images(NUM_IMAGES, seed=1)
    sound = sound_images()
    for number in range(0, NUM_IMAGES, 10):  # some are sound
        stated[number] = sound[number % len(sound)]
        contents[number] = stated[number].encoded
    path = tmp_path / "mutated.beton"
    write_images(path, contents, stated)
    beton = open_beton(path)
    assert read_index(beton) is not None
    config = DataConfig(train=str(path), batch_size=100, resolution=RESOLUTION, num_workers=2, on_error="replace")
    plain = AugmentConfig(repeats=1, crop_scale=(1.0, 1.0), flip=0, auto_augment="", erase=0, mixup=None, cutmix=None)
    loader = train_loader(config, plain, seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    shown = [sample for batch in loader for sample in batch.samples.tolist()]
    assert len(shown) == NUM_IMAGES
    lines = re.findall(
        r"sample (\d+) \(offset \d+, \d+ bytes\) does not decode: .+; sample (\d+) stands in", capfd.readouterr().err
    )
    assert loader.num_replaced == len(lines) > NUM_IMAGES // 2
    named = {int(sample) for sample, _ in lines}
    assert not named & set(shown)
    assert set(range(0, NUM_IMAGES, 10)) <= set(shown)
