"""Images as the device gets and decodes them, with the CPU in its place, against the CPU's views from the same betons."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pytest
import torch
from PIL import Image

import deit_fast.kernels.cuda
from deit_fast.data.format.beton import Beton, open_beton
from deit_fast.data.format.beton_set import open_set
from deit_fast.data.load import decode, gpu_decode
from deit_fast.data.load.gpu_decode import Decoded, DeviceMemory, RaggedDecoder
from deit_fast.kernels import crop, resample, rng
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.decode import STORED_LENGTH
from deit_fast.kernels.gather import Totals
from deit_fast.kernels.jpeg import device_tables
from tests.data.image_folders import convert
from tests.data.planned import planned, random_cropping
from tests.kernels.cuda.compiled_here import compiled_here
from tests.kernels.jpeg import decoded_by_cpu
from tests.kernels.jpeg.decoded_by_cpu import SentJpeg

RESOLUTION = 24
CPU = torch.device("cpu")
_BY_KERNELS = gpu_decode.decode_tiles


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
        self.images = dataclasses.replace(decode.images_of(self.beton, has_index), memories=(self.content,))

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

    def decoder(self) -> RaggedDecoder:
        return RaggedDecoder(self.images, resample.BICUBIC, num_workers=2, device=CPU)

    def decode(self, decoder: RaggedDecoder, ids: np.ndarray, plans: np.ndarray) -> Decoded:
        return decoder.decode(ids, self.stored(ids), plans, RESOLUTION)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[SentJpeg]]:
    """The JPEGs of each batch that the device was to decode, as the CPU then does it."""
    batches: list[list[SentJpeg]] = []

    def decode_tiles(memory: DeviceMemory, totals: Totals) -> None:
        batches.append(decoded_by_cpu.sent_jpegs(memory, totals))
        assert not memory.coefficients[: 64 * totals.blocks].any()
        decoded_by_cpu.decode_tiles(memory, totals)

    monkeypatch.setattr(gpu_decode, "decode_tiles", decode_tiles)
    return batches


def _views_of(decoded: Decoded) -> np.ndarray:
    """What the CPU resamples from decoded images."""
    pixels = decoded.pixels.numpy()
    views = np.empty((len(decoded.crops), RESOLUTION, RESOLUTION, 3), np.uint8)
    for crops, view in zip(decoded.crops, views, strict=True):
        row = decoded.images[crops[tables.IMAGE]]
        rows, columns = row[tables.ROWS], row[tables.COLUMNS]
        image = pixels[row[tables.OFFSET] : row[tables.OFFSET] + 3 * rows * columns]
        assert not row[tables.IS_PLANAR]
        image = image.reshape(rows, columns, 3)
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
    is_sent = images.images.has_index
    assert (~decoded.left == is_sent).all()
    assert decoder.num_refused == (0 if is_sent else len(decoded.images))
    if is_sent:
        np.testing.assert_array_equal(_views_of(decoded), images.views(ids, plans)[0])


def test_views_of_several_betons_are_those_of_each(images: Images, tmp_path: Path) -> None:
    shutil.copy(images.beton.path, tmp_path / "other.beton")
    both = decode.images_of(open_set(f"{images.beton.path}*2,{tmp_path}/other.beton", "data.train"), images.images.has_index)
    of_one = _ids([0, 0, 3, 11, 5, 11])
    plans = images.plans(of_one, "random")
    ids = of_one + np.array([0, 0, 12, 12, 24, 24], np.uint64)  # in the first file, in its second showing, in the other
    stored = np.empty((len(ids), STORED_LENGTH), np.int64)
    both.locate(ids, stored)
    decoded = RaggedDecoder(both, resample.BICUBIC, num_workers=2, device=CPU).decode(ids, stored, plans, RESOLUTION)
    assert (~decoded.left == both.has_index).all()
    wanted = images.views(of_one, plans)[0]
    if both.has_index:
        np.testing.assert_array_equal(_views_of(decoded), wanted)
    views, statuses = np.empty_like(wanted), np.empty(len(ids), np.int32)
    decode.ViewDecoder(both, RESOLUTION, resample.BICUBIC, num_workers=1).decode(ids, stored, plans, views, statuses)
    np.testing.assert_array_equal(views, wanted)


@pytest.fixture(scope="module")
def kernels_here() -> ModuleType:
    """The kernels, compiled for this machine's processor."""
    pytest.importorskip("numba_cuda")
    return compiled_here("jpeg", "jpeg_bits", "jpeg_samples", "jpeg_pixels")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "padded"])
def test_the_kernels_make_the_same_of_what_is_sent(
    images: Images, kernels_here: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deit_fast.kernels.cuda import driver

    monkeypatch.setattr(gpu_decode, "decode_tiles", _BY_KERNELS)
    monkeypatch.setattr(deit_fast.kernels.cuda, "jpeg", kernels_here, raising=False)
    monkeypatch.setitem(sys.modules, "deit_fast.kernels.cuda.jpeg", kernels_here)
    monkeypatch.setattr(driver, "array", torch.Tensor.numpy)
    decoder, is_sent = images.decoder(), images.images.has_index
    for samples in ([0, 0, 0, 7, 7, 7, 2, 11], list(range(12)), [3]):  # memory that grows, and that is used again
        ids = _ids(samples)
        plans = images.plans(ids, kind)
        decoded = images.decode(decoder, ids, plans)
        assert (~decoded.left == is_sent).all()
        if is_sent:
            np.testing.assert_array_equal(_views_of(decoded), images.views(ids, plans)[0])


def test_of_an_image_only_what_its_views_need_is_sent_and_once(images: Images, sent: list[list[SentJpeg]]) -> None:
    sample = int(np.argmax(images.beton.sizes))
    ids = _ids([sample] * 3)
    plans = images.plans(ids, "random")
    plans[:, 0] //= 2  # all in the upper part of the image
    decoded = images.decode(images.decoder(), ids, plans)
    assert len(decoded.images) == 1
    row = decoded.images[0]
    if decoded.left[0]:
        assert not images.images.has_index
        assert not sent
        return
    assert row[tables.ROWS] * row[tables.COLUMNS] < row[tables.HEIGHT] * row[tables.WIDTH]
    if images.beton.modes[sample]:
        assert not sent
    else:
        ((jpeg,),) = sent
        assert jpeg.row[device_tables.ROWS] == row[tables.ROWS]
        assert len(jpeg.encoded) < images.beton.sizes[sample]


def test_what_is_beyond_the_devices_memory_is_left_to_the_cpu(images: Images) -> None:
    decoder, ids = images.decoder(), _ids(list(range(12)))
    plans = images.plans(ids, "centre")
    whole = images.decode(decoder, ids, plans)
    if whole.left.any():
        pytest.skip("nothing is sent")
    sizes = 3 * whole.images[:, tables.ROWS] * whole.images[:, tables.COLUMNS]
    decoder.most_bytes = int(sizes.sum() - 1)
    fewer = images.decode(decoder, ids, plans)
    kept = ~fewer.left
    assert 6 <= kept.sum() < 12
    assert sizes[kept].sum() <= decoder.most_bytes
    np.testing.assert_array_equal(_views_of(fewer)[kept], images.views(ids, plans)[0][kept])


def test_memory_is_used_again(images: Images) -> None:
    decoder = images.decoder()
    wide = _ids([0, 1, 2, 3, 4, 5])
    first = images.decode(decoder, wide, images.plans(wide, "centre")).pixels
    memory = decoder._there
    narrow = _ids([6])
    second = images.decode(decoder, narrow, images.plans(narrow, "random"))
    assert second.pixels.data_ptr() == first.data_ptr()
    assert decoder._there is memory
    if second.left.any():
        return
    np.testing.assert_array_equal(_views_of(second), images.views(narrow, images.plans(narrow, "random"))[0])


class _Transfer:
    """A transfer from the host's memory that ends when it is waited for; then what it reads must still be what was sent."""

    def __init__(self, *memories: torch.Tensor) -> None:
        self._memories, self._sent = memories, [memory.clone() for memory in memories]
        self.num_waits = 0

    def record(self) -> None:
        """The next transfer begins, of which the test makes another object."""

    def synchronize(self) -> None:
        assert all(torch.equal(memory, sent) for memory, sent in zip(self._memories, self._sent, strict=True))
        self.num_waits += 1


def test_the_host_writes_only_where_transfers_have_ended(images: Images) -> None:
    if not images.images.has_index:
        pytest.skip("nothing is sent")
    decoder, transfers = images.decoder(), []
    for number in range(6):
        ids = _ids([2 * number, 2 * number + 1])
        images.decode(decoder, ids, images.plans(ids, "random"))
        host = decoder._hosts[0]
        transfer = _Transfer(host.encoded, host.tables, host.pixels)
        transfers.append(transfer)
        host.is_read = transfer  # type: ignore[assignment]
        # of the batch before, the transfer may go on
        assert [other.num_waits for other in transfers] == [1] * (number - 1) + [0] * min(number + 1, 2)


def test_images_that_are_shrunk_by_more_than_the_device_can_are_left_to_the_cpu(tmp_path: Path) -> None:
    """A bicubic filter reaches two pixels to each side, times the factor: 1,024 pixels at 256 times."""
    side = 2
    sizes = [(255 * side, 255 * side), (256 * side, 40), (40, 256 * side), (30, 50)]
    (tmp_path / "only").mkdir()
    for number, (height, width) in enumerate(sizes):
        Image.new("RGB", (width, height), (number, 99, 5)).save(tmp_path / "only" / f"{number}.png")
    for mode in ("jpg", "raw"):
        convert(tmp_path, tmp_path / f"{mode}.beton", mode=mode)
        images, ids = Images(tmp_path / f"{mode}.beton"), _ids([0, 1, 2, 3])
        plans = np.zeros((4, crop.PLAN_LENGTH), np.int64)
        plans[:, 2:4], plans[:, 4:6] = sizes, side
        decoder = images.decoder()
        decoded = decoder.decode(ids, images.stored(ids), plans, side)
        assert decoded.left.tolist() == [False, True, True, False]
        assert decoder.num_refused == (2 if mode == "jpg" else 0)


def test_what_is_damaged_or_of_another_kind_is_left_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[list[SentJpeg]]
) -> None:
    _save_images(tmp_path, lambda image, path: image.save(path, quality=92))
    convert(tmp_path, tmp_path / "out.beton", num_workers=1)
    images = Images(tmp_path / "out.beton")
    beton = images.beton
    # of 2, the first marker; of 5, what ends its tiles; of 7, its size; 9 is refused by the device
    images.content[int(beton.offsets[2])] = 0
    start, size = int(beton.offsets[5]), int(beton.sizes[5])
    images.content[start + size // 2 : start + size] = 0
    images.beton.heights[7] -= 1

    decode_tiles = gpu_decode.decode_tiles

    def picky(memory: DeviceMemory, totals: Totals) -> None:
        decode_tiles(memory, totals)
        if len(sent) == 1:
            memory.statuses[totals.jpegs - 2] = device_tables.UNSUPPORTED

    monkeypatch.setattr(gpu_decode, "decode_tiles", picky)
    ids = _ids([0, 2, 2, 4, 5, 7, 9, 9, 10])
    plans = images.plans(ids, "centre")
    decoder = images.decoder()
    of_host = images.decode(decoder, ids, plans)
    damaged = of_host.damaged()
    assert (of_host.left ^ damaged).tolist() == [False, True, True, False, True, True, True, True, False]
    assert decoder.num_refused == 4
    assert len(sent[0]) == 5  # 2 and 7 are seen from the header
    assert damaged[6:8].all()
    decoded = decoder.decode(ids, images.stored(ids), plans, RESOLUTION, damaged)
    assert (decoded.left == of_host.left | damaged).all()
    assert not decoded.damaged().any()
    assert decoder.num_refused == 4  # none is counted twice
    of_cpu, statuses = images.views(ids, plans)
    kept = ~decoded.left
    np.testing.assert_array_equal(_views_of(decoded)[kept], of_cpu[kept])
    assert not statuses[kept].any()
    assert statuses[[1, 2, 4]].all()  # the CPU is the judge of what is left
    assert not statuses[[6, 7]].any()
