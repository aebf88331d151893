"""The order against DeiT's rule, and its properties over ranks and epochs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.augment import rng
from deit_fast.config import UserError
from deit_fast.data import order


def _deit_stream(permutation: np.ndarray, repeats: int, ranks: int) -> list[np.ndarray]:
    """What each rank gets from DeiT's sampler: every index `repeats` times in a row, padded, dealt by stride."""
    stream = np.repeat(permutation, repeats)
    padding = -len(stream) % ranks
    stream = np.concatenate([stream, stream[:padding]])
    return [stream[rank::ranks] for rank in range(ranks)]


@pytest.mark.parametrize(("ranks", "batch_size", "repeats"), [(1, 32, 3), (2, 16, 3), (4, 8, 2), (8, 4, 3)])
def test_global_batches_are_deits(ranks: int, batch_size: int, repeats: int) -> None:
    count = 1000
    ours = [
        order.train_batches(count, seed=5, epoch=2, batch_size=batch_size, repeats=repeats, rank=rank, world_size=ranks)
        for rank in range(ranks)
    ]
    theirs = _deit_stream(rng.permutation(5, 2, count), repeats, ranks)
    for step in range(len(ours[0])):
        our_batch = np.concatenate([rng.sample_of(ids[step]) for ids in ours])
        their_batch = np.concatenate([samples[step * batch_size : (step + 1) * batch_size] for samples in theirs])
        assert sorted(our_batch.tolist()) == sorted(their_batch.tolist())


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
        order.train_batches(count, seed=1, epoch=epoch, batch_size=batch_size, repeats=repeats, rank=rank, world_size=ranks)
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
    def batches(epoch: int, first_step: int = 0) -> np.ndarray:
        return order.train_batches(
            100, seed=0, epoch=epoch, batch_size=8, repeats=3, rank=1, world_size=2, first_step=first_step
        )

    assert not np.array_equal(batches(0), batches(1))
    np.testing.assert_array_equal(batches(4)[2:], batches(4, first_step=2))


@given(count=st.integers(0, 200), batch_size=st.integers(1, 16), ranks=st.integers(1, 8))
def test_evaluation_shows_each_image_once(count: int, batch_size: int, ranks: int) -> None:
    shown: list[int] = []
    for rank in range(ranks):
        batches = order.eval_batches(count, batch_size=batch_size, rank=rank, world_size=ranks)
        assert all(0 < len(batch) <= batch_size for batch in batches)
        shown += [int(sample) for batch in batches for sample in batch]
    assert sorted(shown) == list(range(count))
