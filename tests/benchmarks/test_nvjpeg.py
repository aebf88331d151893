"""nvJPEG as a rival: refusals one by one, and JPEGs cut to the tiles under views, with libjpeg in its place."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deit_fast.benchmarks.rivals.nvjpeg import NvjpegDecoder, decode_each, torchvision_decoder
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.decode import images_of
from deit_fast.kernels import resample, rng
from deit_fast.kernels.decode import STORED_LENGTH
from tests.data.image_folders import convert
from tests.data.planned import planned, random_cropping

CPU = torch.device("cpu")
SIDE = 32


@pytest.mark.parametrize("refused", [{0}, {4}, {1, 2}, {0, 1, 2, 3, 4}])
def test_one_that_is_refused_does_not_cost_the_others(refused: set[int]) -> None:
    calls = []

    def picky(sources: list[torch.Tensor]) -> list[torch.Tensor]:
        calls.append(len(sources))
        if any(int(source[0]) in refused for source in sources):
            raise RuntimeError("not this one")
        return [10 * source for source in sources]

    decoded = decode_each(picky, [torch.tensor([number]) for number in range(5)])
    assert [image if image is None else int(image[0]) for image in decoded] == [
        None if number in refused else 10 * number for number in range(5)
    ]
    assert calls[0] == 5


def test_a_device_that_fails_is_no_refusal() -> None:
    def out_of_memory(sources: list[torch.Tensor]) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        decode_each(out_of_memory, [torch.zeros(1)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
@pytest.mark.parametrize("has_index", [True, False])
def test_jpegs_are_cut_to_the_tiles_under_views(has_index: bool, tmp_path: Path) -> None:
    generator, wanted = np.random.default_rng(0), []
    (tmp_path / "only").mkdir()
    for number in range(5):
        noise = generator.integers(0, 256, (30, 100, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((400, 120), Image.Resampling.BICUBIC).save(file, "JPEG", subsampling="4:4:4")
        (tmp_path / "only" / f"{number}.jpg").write_bytes(file.getvalue())
        wanted.append(np.asarray(Image.open(file)))
    convert(tmp_path, tmp_path / "out.beton", num_workers=1)
    beton = open_beton(tmp_path / "out.beton")
    images = images_of(beton, has_index)
    ids = rng.pack_view_ids(0, np.repeat(np.arange(5), 2), np.arange(10) % 2)
    stored = np.empty((10, STORED_LENGTH), np.int64)
    images.locate(ids, stored)
    plans = planned(ids, beton.heights, beton.widths, random_cropping((0.05, 0.1)), SIDE)
    decode_jpegs = torchvision_decoder(CPU)
    decoder = NvjpegDecoder(decode_jpegs, images, resample.BOX, batch_size=10, num_workers=2, is_pinned=False)
    decoded = decoder.decode(ids, stored, plans, SIDE)
    assert decoder.num_refused == 0
    sizes = set()
    for image, whole in zip(decoded, wanted, strict=True):
        assert image is not None
        part = image.permute(1, 2, 0).numpy()
        sizes.add(part.shape)
        height, width = part.shape[:2]
        places = [(y, x) for y in range(0, 121 - height, 8) for x in range(0, 401 - width, 16)]
        assert any(np.array_equal(whole[y : y + height, x : x + width], part) for y, x in places)
    assert (sizes == {(120, 400, 3)}) != has_index
