"""The generator against its published test vectors, and what is drawn from it against SciPy's distributions."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.kernels import rng

ALL = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        # Random123's kat_vectors, philox4x32 with 10 rounds
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ALL,) * 4, (ALL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, ...], want: tuple[int, ...]) -> None:
    words = [np.uint64(word) for word in (*counter, *key)]
    assert tuple(int(word) for word in rng.philox(*words)) == want


@given(
    epoch=st.integers(0, rng.MAX_EPOCHS - 1),
    sample=st.integers(0, rng.MAX_SAMPLES - 1),
    view=st.integers(0, rng.MAX_VIEWS - 1),
)
def test_view_id_holds_its_parts(epoch: int, sample: int, view: int) -> None:
    ids = rng.pack_view_ids(epoch, np.array([sample]), np.array([view]))
    assert ids.dtype == np.uint64
    assert (int(rng.sample_of(ids)[0]), int(rng.view_of(ids)[0]), int(ids[0]) >> 48) == (sample, view, epoch)


def test_plain_sample_number_is_its_own_id() -> None:
    assert rng.pack_view_ids(0, np.array([1_281_166]), np.array([0]))[0] == 1_281_166


def test_words_depend_on_every_part_of_the_key() -> None:
    def draw(seed: int, epoch: int, sample: int, view: int, operation: int, block: int) -> tuple[int, ...]:
        view_id = rng.pack_view_ids(epoch, np.array([sample]), np.array([view]))[0]
        return tuple(rng.words(seed, view_id, operation, block))

    base = (7, 3, 11, 1, rng.CROP, 0)
    changed = [draw(*(value + (i == part) for i, value in enumerate(base))) for part in range(len(base))]
    assert len({draw(*base), *changed}) == len(base) + 1


def test_uniforms_are_uniform_and_independent() -> None:
    drawn = np.array([rng.uniforms(1, view_id, rng.CROP, 0) for view_id in range(5000)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert scipy.stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    correlation = np.corrcoef(drawn, rowvar=False) - np.eye(4)
    assert np.abs(correlation).max() < 0.06


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_symmetric_beta_distribution(alpha: float) -> None:
    drawn = [rng.symmetric_beta(5, view_id, rng.MIX, 2, alpha) for view_id in range(5000)]
    assert scipy.stats.kstest(drawn, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 1000), count=st.integers(1, 300))
def test_permutation_is_a_permutation(seed: int, epoch: int, count: int) -> None:
    order = rng.permutation(seed, epoch, count)
    assert sorted(order) == list(range(count))


def test_permutation_is_fair() -> None:
    # where sample 0 lands over many epochs, against the uniform distribution
    places = [int(np.flatnonzero(rng.permutation(0, epoch, 10) == 0)[0]) for epoch in range(2000)]
    assert scipy.stats.chisquare(np.bincount(places, minlength=10)).pvalue > 1e-3


def test_words_of_a_row_are_those_of_the_view_and_others() -> None:
    of_rows = {rng.words_at(5, 77, rng.NOISE, row, 3) for row in range(100)}
    assert len(of_rows) == 100
    assert rng.words(5, 77, rng.NOISE, 3) == rng.words_at(5, 77, rng.NOISE, 0, 3)


def test_operations_have_numbers_of_their_own() -> None:
    operations = (rng.ORDER, rng.CROP, rng.FLIP, rng.MIX, rng.POLICY, rng.JITTER, rng.ERASE, rng.NOISE)
    assert operations == tuple(range(1, 9))
