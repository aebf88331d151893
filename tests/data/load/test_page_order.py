"""The order by pages: every sample once, never more than a window in use, and classes mixed even where the file sorts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.load import page_order
from deit_fast.data.load.page_order import Chunks, cut_into_chunks, mixing_statistics, read_schedule, sample_stream
from deit_fast.kernels import rng

CHUNK_BYTES = 64 << 10


@st.composite
def chunked_files(draw: st.DrawFn) -> tuple[Chunks, NDArray[np.uint64], NDArray[np.uint64]]:
    """A file of images, some larger than a chunk, in an order that is not the samples', and a subset of it in chunks."""
    count = draw(st.integers(1, 200))
    generator = np.random.Generator(np.random.Philox(draw(st.integers(0, 1000))))
    sizes = generator.integers(0, draw(st.sampled_from([3000, 40_000, 150_000])), count).astype(np.uint64)
    place = generator.permutation(count)
    offsets = np.empty(count, np.uint64)
    offsets[place] = np.cumsum(sizes[place]) - sizes[place] + 1000
    subset = np.sort(generator.permutation(count)[: draw(st.integers(1, count))])
    return cut_into_chunks(offsets, sizes, subset, CHUNK_BYTES), offsets, sizes


@given(chunked_files())
def test_chunks_hold_consecutive_images(file: tuple[Chunks, NDArray[np.uint64], NDArray[np.uint64]]) -> None:
    chunks, offsets, sizes = file
    assert (np.diff(offsets[chunks.samples].astype(np.int64)) >= 0).all()
    assert len(np.unique(chunks.samples)) == len(chunks.samples)
    for chunk in range(len(chunks)):
        samples = chunks.samples[chunks.first_samples[chunk] : chunks.first_samples[chunk + 1]]
        ranges = slice(chunks.first_ranges[chunk], chunks.first_ranges[chunk + 1])
        starts, ends = chunks.starts[ranges], chunks.ends[ranges]
        assert len(samples) >= 1
        assert (chunks.chunk_of_samples(len(offsets))[samples] == chunk).all()
        for sample in samples:
            end = offsets[sample] + sizes[sample]
            assert ((starts <= offsets[sample].astype(np.int64)) & (end.astype(np.int64) <= ends)).sum() == 1
        assert chunks.num_bytes[chunk] == (ends - starts).sum()
        assert chunks.num_bytes[chunk] <= CHUNK_BYTES or len(samples) == 1
        # what is not asked for between two ranges is worth asking twice
        assert (starts[1:] - ends[:-1] > 64 << 10).all()


@given(chunked_files(), st.integers(0, 5), st.integers(1, 30))
def test_each_sample_once_and_never_more_than_the_window(
    file: tuple[Chunks, NDArray[np.uint64], NDArray[np.uint64]], epoch: int, room: int
) -> None:
    chunks, offsets, _ = file
    window_bytes = int(chunks.num_bytes.max()) * 2 + room * CHUNK_BYTES // 2
    stream = sample_stream(chunks, seed=3, epoch=epoch, window_bytes=window_bytes)
    assert sorted(stream.tolist()) == sorted(chunks.samples.tolist())
    chunk = chunks.chunk_of_samples(len(offsets))[stream]
    for position in range(len(stream)):
        begun_and_not_done = np.intersect1d(chunk[: position + 1], chunk[position:])
        assert chunks.num_bytes[begun_and_not_done].sum() <= window_bytes


@given(chunked_files(), st.integers(1, 20), st.integers(1, 3), st.integers(0, 3))
def test_the_schedule_holds_what_each_step_shows(
    file: tuple[Chunks, NDArray[np.uint64], NDArray[np.uint64]], batch_size: int, repeats: int, first_step: int
) -> None:
    chunks, offsets, sizes = file
    stream = sample_stream(chunks, seed=0, epoch=1, window_bytes=1 << 30)
    positions = np.arange(min(first_step * batch_size, len(stream)), len(stream))
    steps = positions // batch_size
    schedule = read_schedule(chunks, stream[positions // repeats], steps, len(offsets))
    assert (np.diff(schedule.first_steps) >= 0).all()
    used = np.zeros((2, len(schedule.starts)), np.int64)
    for position, step in zip(positions, steps, strict=True):
        sample = stream[position // repeats]
        start = int(offsets[sample])
        holding = np.flatnonzero((schedule.starts <= start) & (start + int(sizes[sample]) <= schedule.ends))
        held = [number for number in holding if schedule.first_steps[number] <= step <= schedule.last_steps[number]]
        assert held
        used[0, held] += schedule.first_steps[held] == step
        used[1, held] += schedule.last_steps[held] == step
    # no range is asked for too early or kept too long, but those that belong to another of the same chunk
    if len(chunks.starts) == len(chunks):
        assert (used > 0).all()


def _class_sorted(count: int, num_classes: int) -> tuple[Chunks, NDArray[np.int64]]:
    """A file of images of 8 KiB, nine to a chunk, sorted by class."""
    sizes = np.full(count, 8192, np.uint64)
    chunks = cut_into_chunks(np.cumsum(sizes) - sizes, sizes, np.arange(count), 9 * 8192)
    return chunks, np.arange(count) * num_classes // count


def test_classes_mix_in_a_file_sorted_by_class() -> None:
    chunks, labels = _class_sorted(100_000, 200)
    # 3 % of the file, as 4 GiB of ImageNet's training set, and a twelfth of the window's chunks in a batch, as 341 of them
    stream = sample_stream(chunks, seed=0, epoch=0, window_bytes=3 * 8192 * 100_000 // 100)
    mixed = mixing_statistics(labels, stream, 28)
    shuffled = mixing_statistics(labels, rng.permutation(0, 0, 100_000), 28)
    assert mixed["chi_square"] == pytest.approx(shuffled["chi_square"], abs=0.03)
    assert mixed["distinct_classes"] == pytest.approx(shuffled["distinct_classes"], rel=0.01)
    assert abs(mixed["correlation"]) < 0.03
    # first and last batches too, though fewer chunks are in use there
    assert mixed["worst_batch"] < 1.2 * shuffled["worst_batch"]


def test_a_small_window_is_seen_to_mix_badly() -> None:
    chunks, labels = _class_sorted(100_000, 200)
    stream = sample_stream(chunks, seed=0, epoch=0, window_bytes=30 * 9 * 8192)
    mixed = mixing_statistics(labels, stream, 100)
    assert mixed["chi_square"] > 1.5
    assert mixed["correlation"] > 0.3


def test_statistics_of_streams_worked_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    alternating = mixing_statistics(labels, np.array([0, 4, 1, 5, 2, 6, 3, 7]), 2)
    assert alternating["distinct_classes"] == 2
    assert alternating["chi_square"] == 0
    # each batch of two is of one class: (2 - 1)^2 / 1 + (0 - 1)^2 / 1 = 2, for one degree of freedom
    sorted_by_class = mixing_statistics(labels, np.arange(8), 2)
    assert sorted_by_class["distinct_classes"] == 1
    assert sorted_by_class["chi_square"] == sorted_by_class["worst_batch"] == 2
    # deviations (1, -1), (1, -1), (-1, 1), (-1, 1): products of neighbours 2, -2, 2
    assert sorted_by_class["correlation"] == pytest.approx((2 - 2 + 2) / 3 / 2)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    chunks, _ = _class_sorted(1000, 10)
    window_bytes = 200 * 8192
    stream = sample_stream(chunks, seed=1, epoch=2, window_bytes=window_bytes)
    np.testing.assert_array_equal(stream, sample_stream(chunks, seed=1, epoch=2, window_bytes=window_bytes))
    for seed, epoch in ((1, 3), (2, 2)):
        assert not np.array_equal(stream, sample_stream(chunks, seed=seed, epoch=epoch, window_bytes=window_bytes))


def test_a_window_of_less_than_two_chunks_is_an_error() -> None:
    chunks, _ = _class_sorted(100, 10)
    with pytest.raises(UserError, match=rf"data\.window_gb=0\.0001: want at least {2 * 9 * 8192 / 1e9:g}"):
        sample_stream(chunks, seed=0, epoch=0, window_bytes=100_000)


def test_a_sparse_subset_reads_little_besides_its_images() -> None:
    sizes = np.full(1000, 100_000, np.uint64)
    offsets = np.cumsum(sizes) - sizes
    chunks = cut_into_chunks(offsets, sizes, np.arange(0, 1000, 10), page_order.CHUNK_BYTES)
    assert chunks.num_bytes.sum() < 1.1 * 100 * 100_000
    assert len(chunks) < 15
