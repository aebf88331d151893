"""The order against DeiT's rule, and its properties over ranks and epochs."""

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.load import order
from deit_fast.data.load.order import TrainOrder
from deit_fast.kernels import rng

KINDS: tuple[Literal["random", "pages"], ...] = ("random", "pages")


def _deit_sampler(permutation: NDArray[np.int64], ranks: int) -> list[NDArray[np.int64]]:
    """What each rank gets from DeiT's sampler: every index three times in a row, padded, dealt by stride, cut."""
    stream = np.repeat(permutation, 3)
    padding = -len(stream) % ranks
    stream = np.concatenate([stream, stream[:padding]])
    kept = math.floor(len(permutation) // 256 * 256 / ranks)
    return [stream[rank::ranks][:kept] for rank in range(ranks)]


def _order(
    count: int,
    rank: int,
    ranks: int,
    *,
    batch_size: int = 8,
    repeats: int = 3,
    kind: Literal["random", "pages"] = "random",
    subset: NDArray[np.int64] | None = None,
) -> TrainOrder:
    """Order of a file of images of 10,000 bytes, in chunks of six, of which six are in the window."""
    sizes = np.full(count, 10_000, np.uint64)
    return order.train_order(
        np.cumsum(sizes) - sizes, sizes, subset=subset, kind=kind, seed=5, batch_size=batch_size, repeats=repeats, rank=rank,
        world_size=ranks, window_bytes=400_000, chunk_bytes=65_536,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1000, 1024, 1281, 300])
@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 32), (2, 16), (4, 64), (8, 32), (3, 7)])
@pytest.mark.parametrize("kind", KINDS)
def test_global_batches_are_deits(count: int, ranks: int, batch_size: int, kind: Literal["random", "pages"]) -> None:
    orders = [_order(count, rank, ranks, batch_size=batch_size, kind=kind) for rank in range(ranks)]
    ours = [rank_order.batches(2) for rank_order in orders]
    theirs = _deit_sampler(orders[0].stream(2), ranks)
    steps = len(theirs[0]) // batch_size
    assert steps <= orders[0].steps_per_epoch
    if batch_size * ranks % 256 == 0:
        assert steps == orders[0].steps_per_epoch
    for step in range(steps):
        our_batch = np.concatenate([rng.sample_of(ids[step]) for ids in ours])
        their_batch = np.concatenate([samples[step * batch_size : (step + 1) * batch_size] for samples in theirs])
        assert sorted(our_batch.tolist()) == sorted(their_batch.tolist())


def test_imagenets_epoch_has_deits_length() -> None:
    assert order.steps_per_epoch(1_281_167, 128, 8) == 1251


@given(
    count=st.integers(64, 500),
    kind=st.sampled_from(KINDS),
    is_subset=st.booleans(),
    repeats=st.integers(1, 4),
    first_step=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_ranks_share_out_the_global_batch_whatever_their_number(
    count: int, kind: Literal["random", "pages"], is_subset: bool, repeats: int, first_step: int, epoch: int
) -> None:
    subset = np.arange(0, count, 2) if is_subset else None
    whole = _order(count, 0, 1, batch_size=24, repeats=repeats, kind=kind, subset=subset).batches(epoch)
    parts = [
        _order(count, rank, 3, batch_size=8, repeats=repeats, kind=kind, subset=subset).batches(epoch, first_step)
        for rank in range(3)
    ]
    # what is shown does not depend on the ranks, and resuming shows the rest of it
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[first_step:])
    assert len(np.unique(whole)) == whole.size
    samples = rng.sample_of(whole.ravel())
    assert subset is None or np.isin(samples, subset).all()
    assert len(samples) // repeats <= len(np.unique(samples)) <= -(-len(samples) // repeats)


@pytest.mark.parametrize("first_step", [0, 7])
def test_all_ranks_read_from_one_window(first_step: int) -> None:
    orders = [_order(1200, rank, 2, kind="pages") for rank in range(2)]
    schedule = orders[0].read_schedule(0, first_step)
    assert schedule is not None
    other = orders[1].read_schedule(0, first_step)
    assert other is not None
    np.testing.assert_array_equal(schedule.starts, other.starts)
    for step in range(first_step, orders[0].steps_per_epoch):
        held = (schedule.first_steps <= step) & (step <= schedule.last_steps)
        # the window, and what comes and goes within the step: 16 views are at most 7 images
        assert (schedule.ends - schedule.starts)[held].sum() <= 400_000 + 7 * 65_536
        for rank_order in orders:
            samples = rng.sample_of(rank_order.batches(0)[step])
            starts = samples.astype(np.int64)[:, None] * 10_000
            inside = (schedule.starts[held] <= starts) & (starts + 10_000 <= schedule.ends[held])
            assert inside.any(axis=1).all()
    assert _order(1200, 0, 2).read_schedule(0) is None


def test_a_subset_takes_each_class_its_share() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    subset = order.choose_subset(labels, 100, seed=0)
    assert np.bincount(labels[subset]).tolist() == [60, 30, 10]
    assert (np.diff(subset) > 0).all()
    np.testing.assert_array_equal(subset, order.choose_subset(labels, 100, seed=0))
    assert not np.array_equal(subset, order.choose_subset(labels, 100, seed=1))
    with pytest.raises(UserError, match=r"data\.subset=1001: want 1 to 1000"):
        order.choose_subset(labels, 1001, seed=0)


def test_an_order_that_cannot_be_is_an_error_when_made() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=8 on 2 rank\(s\) is more than the 15 training images"):
        _order(1200, 0, 2, subset=np.arange(15))
    sizes = np.full(100, 1 << 19, np.uint64)
    with pytest.raises(UserError, match=r"want at least 0\.00209715"):
        order.train_order(
            np.cumsum(sizes) - sizes, sizes, kind="pages", seed=0, batch_size=8, repeats=1, rank=0, world_size=1,
            window_bytes=1 << 20,
        )  # fmt: skip


def _train_order(count: int, **options: int) -> order.TrainOrder:
    offsets = np.arange(count, dtype=np.uint64) * 1000
    return order.train_order(offsets, np.full(count, 1000, np.uint64), **options)  # type: ignore[arg-type]


def test_what_stands_in_for_a_sample_is_of_the_subset() -> None:
    subset = np.array([2, 5, 9])
    shuffled = order.TrainOrder(subset, 12, None, 0, 1, 1, 0, 1, 0)
    assert [shuffled.sample_after(sample) for sample in (2, 5, 9)] == [5, 9, 2]


@given(
    count=st.integers(1, 400),
    batch_size=st.integers(1, 16),
    repeats=st.integers(1, 4),
    ranks=st.integers(1, 4),
    epoch=st.integers(0, 50),
)
def test_each_view_is_shown_at_most_once(count: int, batch_size: int, repeats: int, ranks: int, epoch: int) -> None:
    if count < batch_size * ranks:
        with pytest.raises(UserError, match=r"data\.batch_size=.* is more than the"):
            order.steps_per_epoch(count, batch_size, ranks)
        return
    batches = [
        _train_order(count, seed=1, batch_size=batch_size, repeats=repeats, rank=rank, world_size=ranks).batches(epoch)
        for rank in range(ranks)
    ]
    ids = np.concatenate(batches).ravel()
    assert len(np.unique(ids)) == len(ids) == count // (batch_size * ranks) * batch_size * ranks
    assert rng.sample_of(ids).max() < count
    assert rng.view_of(ids).max() < repeats
    for rank_batches in batches:
        for batch in rank_batches:
            samples = rng.sample_of(batch)
            # copies of a sample lie next to each other
            assert (np.diff(samples.astype(np.int64)) != 0).sum() == len(np.unique(samples)) - 1


def test_epochs_differ_and_resuming_goes_on() -> None:
    shuffled = _train_order(100, seed=0, batch_size=8, repeats=3, rank=1, world_size=2)
    assert not np.array_equal(shuffled.batches(0), shuffled.batches(1))
    np.testing.assert_array_equal(shuffled.batches(4)[2:], shuffled.batches(4, first_step=2))


@given(count=st.integers(0, 200), batch_size=st.integers(1, 16), ranks=st.integers(1, 8))
def test_evaluation_shows_each_image_once(count: int, batch_size: int, ranks: int) -> None:
    shown: list[int] = []
    for rank in range(ranks):
        evaluation = order.EvalOrder(count, batch_size, rank, ranks)
        batches = evaluation.batches(0)
        assert len(batches) == evaluation.steps_per_epoch
        assert all(0 < len(batch) <= batch_size for batch in batches)
        shown += [int(sample) for batch in batches for sample in batch]
    assert sorted(shown) == list(range(count))
