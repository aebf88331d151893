"""Images as the device gets and decodes them, with libjpeg in nvJPEG's place, against the CPU's views from the same betons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from PIL import Image

from deit_fast.data.format.beton import Beton, open_beton
from deit_fast.data.load import decode, gpu_decode
from deit_fast.data.load.gpu_decode import Decoded, RaggedDecoder
from deit_fast.kernels import crop, resample, rng
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.decode import STORED_LENGTH
from tests.data.image_folders import convert
from tests.data.planned import planned, random_cropping

RESOLUTION = 24
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")


def _save_images(folder: Path, save: Callable[[Image.Image, Path], None]) -> None:
    generator = np.random.default_rng(0)
    (folder / "only").mkdir(parents=True)
    for number in range(12):
        height, width = generator.integers(40, 300, 2)
        noise = generator.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        save(image, folder / "only" / f"{number:02}.jpg")


class Images:
    """A beton, and its file in memory that tests may write to."""

    def __init__(self, path: Path, *, has_index: bool = True) -> None:
        self.beton: Beton = open_beton(path)
        self.content = np.memmap(path, np.uint8, "c")
        self.images = dataclasses.replace(decode.images_of(self.beton, has_index), memory=self.content)

    def stored(self, ids: np.ndarray) -> np.ndarray:
        stored = np.empty((len(ids), STORED_LENGTH), np.int64)
        self.images.locate(ids, stored)
        return stored

    def plans(self, ids: np.ndarray, kind: str) -> np.ndarray:
        cropping = {
            "centre": crop.cropping(crop.CENTRE, resized=RESOLUTION + 3),
            "padded": crop.cropping(crop.SIMPLE, flip=0.5, padding=4),
            "random": random_cropping((0.05, 0.6)),
        }[kind]
        return planned(ids, self.beton.heights, self.beton.widths, cropping, RESOLUTION)

    def views(self, ids: np.ndarray, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(views, statuses) of the CPU's decoder."""
        views = np.full((len(ids), RESOLUTION, RESOLUTION, 3), 99, np.uint8)
        statuses = np.full(len(ids), -1, np.int32)
        numba.set_num_threads(1)
        decoder = decode.ViewDecoder(self.images, RESOLUTION, resample.BICUBIC, num_workers=1)
        decoder.decode(ids, self.stored(ids), plans, views, statuses)
        return views, statuses

    def decoder(self, decode_jpegs: gpu_decode.DecodeJpegs | None = None) -> RaggedDecoder:
        jpegs = decode_jpegs or gpu_decode.torchvision_decoder(CPU)
        return RaggedDecoder(jpegs, self.images, resample.BICUBIC, num_workers=2, device=CPU)

    def decode(self, decoder: RaggedDecoder, ids: np.ndarray, plans: np.ndarray) -> Decoded:
        return decoder.decode(ids, self.stored(ids), plans, RESOLUTION)


def _views_of(decoded: Decoded) -> np.ndarray:
    """What the CPU resamples from decoded images."""
    pixels = decoded.pixels.numpy()
    views = np.empty((len(decoded.crops), RESOLUTION, RESOLUTION, 3), np.uint8)
    for crops, view in zip(decoded.crops, views, strict=True):
        row = decoded.images[crops[tables.IMAGE]]
        rows, columns = row[tables.ROWS], row[tables.COLUMNS]
        image = pixels[row[tables.OFFSET] : row[tables.OFFSET] + 3 * rows * columns]
        if row[tables.IS_PLANAR]:
            image = image.reshape(3, rows, columns).transpose(1, 2, 0)
        image = np.ascontiguousarray(image.reshape(rows, columns, 3))
        plan = tuple(np.int64(number) for number in crops[:8])
        vertical, horizontal = crop.axes(plan, row[tables.FIRST_ROW], row[tables.FIRST_COLUMN], np.int64(1))
        scratch = resample.scratch_sizes(int(rows) + 999, int(columns) + 999, RESOLUTION)
        arrays = np.empty(scratch[0], np.uint8), np.empty(scratch[1], np.int32)
        resample.resample(image, vertical, horizontal, resample.BICUBIC, bool(crops[tables.FLIPPED]), *arrays, view)
    return views


def _ids(samples: list[int], epoch: int = 1) -> np.ndarray:
    """View ids, with the view number counted for each sample."""
    views = [samples[:place].count(sample) for place, sample in enumerate(samples)]
    return rng.pack_view_ids(epoch, np.array(samples), np.array(views))


@pytest.fixture(scope="module", params=["4:2:0", "4:4:4", "grey", "raw", "no index"])
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("images")
    subsampling = request.param if ":" in request.param else "4:2:0"
    mode = "L" if request.param == "grey" else "RGB"
    _save_images(folder, lambda image, path: image.convert(mode).save(path, quality=92, subsampling=subsampling))
    convert(folder, folder / "out.beton", num_workers=1, mode="raw" if request.param == "raw" else "jpg")
    return Images(folder / "out.beton", has_index=request.param != "no index")


@pytest.mark.parametrize("samples", [[3], [0, 0, 0, 7, 7, 7, 2, 11], [5, 1, 5, 4, 4]], ids=["one", "copies", "apart"])
@pytest.mark.parametrize("kind", ["random", "padded", "centre"])
@pytest.mark.slow
def test_views_are_those_of_the_cpus_decoder(images: Images, samples: list[int], kind: str) -> None:
    ids = _ids(samples)
    plans = images.plans(ids, kind)
    decoder = images.decoder()
    decoded = images.decode(decoder, ids, plans)
    assert not decoded.left.any()
    assert decoder.num_refused == 0
    np.testing.assert_array_equal(_views_of(decoded), images.views(ids, plans)[0])


def test_of_an_image_only_what_its_views_need_is_decoded_and_once(images: Images) -> None:
    sample = int(np.argmax(images.beton.sizes))
    ids = _ids([sample] * 3)
    given: list[int] = []

    def counted(sources: list[torch.Tensor]) -> list[torch.Tensor]:
        given.extend(source.numel() for source in sources)
        return gpu_decode.torchvision_decoder(CPU)(sources)

    plans = images.plans(ids, "random")
    plans[:, 0] //= 2  # all in the upper part of the image
    decoded = images.decode(images.decoder(counted), ids, plans)
    assert len(decoded.images) == 1
    row, is_whole = decoded.images[0], images.images.index is None
    assert (row[tables.ROWS] * row[tables.COLUMNS] < row[tables.HEIGHT] * row[tables.WIDTH]) != is_whole
    assert len(given) == (0 if images.beton.modes[sample] else 1)
    assert all((num_bytes < images.beton.sizes[sample]) != is_whole for num_bytes in given)


def test_memory_is_used_again(images: Images) -> None:
    decoder = images.decoder()
    wide = _ids([0, 1, 2, 3, 4, 5])
    first = images.decode(decoder, wide, images.plans(wide, "centre")).pixels
    narrow = _ids([6])
    second = images.decode(decoder, narrow, images.plans(narrow, "random"))
    assert second.pixels.data_ptr() == first.data_ptr()
    np.testing.assert_array_equal(_views_of(second), images.views(narrow, images.plans(narrow, "random"))[0])


@pytest.mark.parametrize("refused", [{0}, {4}, {1, 2}, {0, 1, 2, 3, 4}])
def test_one_that_is_refused_does_not_cost_the_others(refused: set[int]) -> None:
    calls = []

    def picky(sources: list[torch.Tensor]) -> list[torch.Tensor]:
        calls.append(len(sources))
        if any(int(source[0]) in refused for source in sources):
            raise RuntimeError("not this one")
        return [10 * source for source in sources]

    decoded = gpu_decode.decode_each(picky, [torch.tensor([number]) for number in range(5)])
    assert [image if image is None else int(image[0]) for image in decoded] == [
        None if number in refused else 10 * number for number in range(5)
    ]
    assert calls[0] == 5


def test_a_device_that_fails_is_no_refusal() -> None:
    def out_of_memory(sources: list[torch.Tensor]) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        gpu_decode.decode_each(out_of_memory, [torch.zeros(1)])


def test_what_is_refused_damaged_or_of_another_kind_is_left_to_the_cpu(tmp_path: Path) -> None:
    _save_images(tmp_path, lambda image, path: image.save(path, quality=92))
    convert(tmp_path, tmp_path / "out.beton", num_workers=1)
    images = Images(tmp_path / "out.beton")
    beton = images.beton
    # of 2, the first marker; of 5, what ends its tiles; of 7, its size
    images.content[int(beton.offsets[2])] = 0
    start, size = int(beton.offsets[5]), int(beton.sizes[5])
    images.content[start + size // 2 : start + size] = 0
    images.beton.heights[7] -= 1

    sizes: list[int] = []

    def picky(sources: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes.extend(source.numel() for source in sources)
        if any(source.numel() == sizes[2] for source in sources):  # of 9, the third that is not left anyway
            raise RuntimeError("not this one")
        return gpu_decode.torchvision_decoder(CPU)(sources)

    ids = _ids([0, 2, 2, 4, 5, 7, 9, 9, 10])
    plans = images.plans(ids, "centre")
    decoder = images.decoder(picky)
    decoded = images.decode(decoder, ids, plans)
    assert decoded.left.tolist() == [False, True, True, False, True, True, True, True, False]
    assert decoder.num_refused == 4
    of_cpu, statuses = images.views(ids, plans)
    kept = ~decoded.left
    np.testing.assert_array_equal(_views_of(decoded)[kept], of_cpu[kept])
    assert not statuses[kept].any()
    assert statuses[[1, 2, 4]].all()  # the CPU is the judge of what is left
    assert not statuses[[6, 7]].any()
