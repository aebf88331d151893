"""Views from betons with tiles, one or several of an image, against Pillow; scaled decoding; failures told apart."""

import dataclasses
import io
from pathlib import Path

import numba
import numpy as np
import pytest
from PIL import Image

from deit_fast.data.format.beton import Beton, open_beton
from deit_fast.data.format.index import Index, read_index
from deit_fast.data.load.decode import ViewDecoder, images_of, reason
from deit_fast.kernels import crop, decode, resample, rng
from tests.data.image_folders import convert
from tests.data.planned import planned, random_cropping
from tests.pillows import resized

RESOLUTION = 48


@pytest.fixture(scope="module", params=["4:2:0", "4:4:4", "raw"])
def beton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Beton:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    (folder / "only").mkdir()
    for number in range(12):
        height, width = generator.integers(90, 300, 2)
        noise = generator.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        subsampling = "4:4:4" if request.param == "raw" else request.param
        image.save(folder / "only" / f"{number:02}.jpg", quality=92, subsampling=subsampling)
    out = folder / "out.beton"
    convert(folder, out, num_workers=1, mode="raw" if request.param == "raw" else "jpg")
    return open_beton(out)


def _decode(
    beton: Beton, index: Index | None, ids: np.ndarray, plans: np.ndarray, *, workers: int = 1, dct_scaling: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    images = dataclasses.replace(images_of(beton), indexes=(index,))
    decoder = ViewDecoder(images, RESOLUTION, resample.BICUBIC, dct_scaling=dct_scaling, num_workers=workers)
    stored = np.empty((len(ids), decode.STORED_LENGTH), np.int64)
    views = np.full((len(ids), RESOLUTION, RESOLUTION, 3), 99, np.uint8)
    statuses = np.full(len(ids), -1, np.int32)
    numba.set_num_threads(min(workers, numba.config.NUMBA_NUM_THREADS))
    images.locate(ids, stored)
    decoder.decode(ids, stored, plans, views, statuses)
    assert len(decoder.failures(ids, stored, statuses)) == np.count_nonzero(statuses)
    return views, statuses


def _image(beton: Beton, sample: int) -> Image.Image:
    stored = np.fromfile(beton.path, np.uint8, count=int(beton.sizes[sample]), offset=int(beton.offsets[sample]))
    if beton.modes[sample] == 0:
        return Image.open(io.BytesIO(stored.tobytes())).convert("RGB")
    return Image.fromarray(stored.reshape(beton.heights[sample], beton.widths[sample], 3))


def _random_plans(beton: Beton, ids: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    return planned(ids, beton.heights, beton.widths, random_cropping(scale), RESOLUTION)


@pytest.mark.parametrize("repeats", [1, 3, 12])
@pytest.mark.parametrize("scale", [(0.02, 0.2), (0.08, 1.0)])
def test_views_equal_pillow(beton: Beton, repeats: int, scale: tuple[float, float]) -> None:
    positions = np.arange(48)[1:]  # the first group of copies is cut
    ids = rng.pack_view_ids(3, positions // repeats % beton.num_samples, positions % repeats)
    plans = _random_plans(beton, ids, scale)
    views, statuses = _decode(beton, read_index(beton), ids, plans, workers=2)
    assert (statuses == 0).all()
    for view_id, plan, view in zip(ids, plans, views, strict=True):
        top, left, height, width = plan[:4]
        box = _image(beton, int(rng.sample_of(view_id))).crop((left, top, left + width, top + height))
        want = np.asarray(resized(box, (RESOLUTION, RESOLUTION)))
        np.testing.assert_array_equal(view, want[:, ::-1] if plan[8] else want)


def test_evaluation_views_from_tiles_equal_those_of_whole_images(beton: Beton) -> None:
    ids = np.arange(beton.num_samples, dtype=np.uint64)
    plans = planned(ids, beton.heights, beton.widths, crop.cropping(crop.CENTRE, resized=54), RESOLUTION)
    np.testing.assert_array_equal(_decode(beton, read_index(beton), ids, plans)[0], _decode(beton, None, ids, plans)[0])


def test_scaled_decoding_is_near_and_off_by_default(beton: Beton) -> None:
    ids = np.arange(beton.num_samples, dtype=np.uint64)
    plans = np.zeros((len(ids), crop.PLAN_LENGTH), np.int64)
    for plan, height, width in zip(plans, beton.heights, beton.widths, strict=True):
        plan[:] = (3, 5, height - 7, width - 9, RESOLUTION, RESOLUTION, -4, 4, 0)  # padded by reflection
    exact, statuses = _decode(beton, read_index(beton), ids, plans)
    scaled, scaled_statuses = _decode(beton, read_index(beton), ids, plans, dct_scaling=True)
    assert not statuses.any()
    assert not scaled_statuses.any()
    difference = np.abs(exact.astype(int) - scaled)
    if beton.modes[0] == 0:
        assert 0 < difference.mean() < 4
        assert np.corrcoef(exact.ravel(), scaled.ravel())[0, 1] > 0.99
    else:
        assert difference.max() == 0


def test_scaled_decoding_has_turbojpegs_pixels_of_whole_images(beton: Beton) -> None:
    positions = np.arange(3 * beton.num_samples)
    ids = rng.pack_view_ids(3, positions // 3, positions % 3)
    plans = _random_plans(beton, ids, (0.08, 1.0))
    scaled, statuses = _decode(beton, read_index(beton), ids, plans, dct_scaling=True)
    assert not statuses.any()
    np.testing.assert_array_equal(scaled, _decode(beton, None, ids, plans, dct_scaling=True)[0])


def test_failures_are_told_apart(beton: Beton, tmp_path: Path) -> None:
    content = bytearray(beton.path.read_bytes())
    middle = int(beton.offsets[4] + beton.sizes[4] // 2)
    content[middle : middle + 30] = bytes(30)
    damaged_path = tmp_path / "damaged.beton"
    damaged_path.write_bytes(content)
    damaged, index = open_beton(damaged_path), read_index(beton)
    ids = np.arange(damaged.num_samples, dtype=np.uint64)
    plans = np.zeros((len(ids), crop.PLAN_LENGTH), np.int64)
    for plan, height, width in zip(plans, beton.heights, beton.widths, strict=True):
        plan[:] = (0, 0, height, width, RESOLUTION, RESOLUTION, 0, 0, 0)
    views, statuses = _decode(damaged, index, ids, plans)
    if beton.modes[0] == 1:
        assert not statuses.any()
        return
    assert np.flatnonzero(statuses).tolist() == [4]
    assert (views[4] == 0).all()
    stored = np.frombuffer(bytes(content), np.uint8)[int(beton.offsets[4]) : int(beton.offsets[4] + beton.sizes[4])]
    assert reason(int(statuses[4]), stored.copy(), 0, int(beton.heights[4]), int(beton.widths[4]))
    # those decoded after it are as they were, with the same decoder
    np.testing.assert_array_equal(views[5:], _decode(beton, index, ids, plans)[0][5:])


def test_raw_bytes_of_the_wrong_length_are_reported() -> None:
    why = reason(decode.OTHER_LENGTH, np.zeros(5, np.uint8), 1, 2, 2)
    assert why == "5 bytes are stored, 12 are wanted for 2x2 pixels"


@pytest.mark.parametrize(
    ("blocks", "want"),
    [
        ([(0, 4, 0, 2), (1, 3, 0, 2), (0, 2, 0, 1)], [0, 0, 0]),  # within one another
        ([(0, 2, 0, 1), (20, 22, 3, 4)], [0, 1]),  # far apart: together they would be 88 tiles
        ([(0, 2, 0, 1), (20, 22, 3, 4), (1, 3, 0, 1)], [0, 1, 0]),
    ],
)
def test_views_are_decoded_together_where_that_takes_fewer_tiles(blocks: list[tuple[int, ...]], want: list[int]) -> None:
    cluster, together, needs = np.arange(len(blocks)), np.array(blocks), np.array(blocks) * 16
    decode._cluster(together, needs, np.ones(len(blocks), np.int64), cluster)
    assert cluster.tolist() == want
    apart = np.arange(len(blocks))
    decode._cluster(np.array(blocks), np.array(blocks), np.full(len(blocks), 2), apart)
    assert apart.tolist() == list(range(len(blocks)))  # scaled views are decoded alone
    for first in set(want):
        of_cluster = np.array([block for block, number in zip(blocks, want, strict=True) if number == first])
        low, high = of_cluster.min(0), of_cluster.max(0)
        assert together[first].tolist() == [low[0], high[1], low[2], high[3]]
        assert needs[first].tolist() == [16 * low[0], 16 * high[1], 16 * low[2], 16 * high[3]]
