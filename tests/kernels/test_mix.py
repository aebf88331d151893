"""How batches are mixed: against timm's functions, by distribution, and by the rule that copies are never mixed."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data.mixup import cutmix_bbox_and_lam, mixup_target, rand_bbox, rand_bbox_minmax

from deit_fast.kernels import mix, rng

MODES = list(mix.MODES)


def _how(mode: str = "batch", **changes: Any) -> mix.Mixing:
    usual: dict[str, Any] = {"mixup": 0.8, "cutmix": 1.0, "probability": 1.0, "cutmix_probability": 0.5, "repeats": 3}
    return mix.mixing(mode, **{**usual, **changes})


def _mix(how: mix.Mixing, count: int, first_id: int = 0, height: int = 32, width: int = 32, seed: int = 2) -> mix.Mix:
    ids = np.arange(count, dtype=np.uint64) + np.uint64(first_id)
    drawn: mix.Mix = mix.mix_of(np.uint64(seed), ids, how, height, width)
    return drawn


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [2, 8])
def test_targets_equal_timms(smoothing: float, count: int) -> None:
    # timm pairs i with B - 1 - i, and takes a lambda for each view
    generator = np.random.default_rng(0)
    labels, lam = generator.integers(0, 5, count), generator.random(count)
    lam[0] = 1.0
    targets = np.empty((count, 5), np.float32)
    mix.soft_targets(labels, np.arange(count)[::-1].copy(), lam, smoothing, targets)
    want = mixup_target(torch.from_numpy(labels), 5, torch.from_numpy(lam)[:, None], smoothing)
    np.testing.assert_allclose(targets, want.numpy(), atol=1e-7)


def test_unmixed_targets_are_smoothed_labels() -> None:
    plain = mix.unmixed(3)
    targets = np.empty((3, 4), np.float32)
    mix.soft_targets(np.array([3, 0, 3]), plain.partner, plain.lam, 0.2, targets)
    np.testing.assert_allclose(targets, np.eye(4)[[3, 0, 3]] * 0.8 + 0.05, atol=1e-7)


@given(lam=st.floats(0, 1), seed=st.integers(0, 10_000), height=st.integers(2, 300), width=st.integers(2, 300))
def test_cutmix_box_equals_timms(lam: float, seed: int, height: int, width: int) -> None:
    np.random.seed(seed)  # noqa: NPY002 - timm draws from the global generator
    want = rand_bbox((1, 3, height, width), lam)
    np.random.seed(seed)  # noqa: NPY002
    centre_y, centre_x = np.random.randint(0, height), np.random.randint(0, width)  # noqa: NPY002
    assert mix.cutmix_box(lam, centre_y, centre_x, height, width) == want


@pytest.mark.parametrize("minmax", [None, (0.2, 0.8)])
def test_boxes_and_lambdas_of_cutmix_are_distributed_as_timms(minmax: tuple[float, float] | None) -> None:
    height, width, count = 40, 64, 6000
    drawn = _mix(_how("elem", mixup=0.0, cutmix_minmax=minmax), count, height=height, width=width)
    assert (drawn.kind == mix.CUTMIX).all()
    np.random.seed(0)  # noqa: NPY002
    timms = []
    for lam in np.random.beta(1.0, 1.0, count):  # noqa: NPY002
        box, lam = cutmix_bbox_and_lam((3, height, width), lam, ratio_minmax=minmax)
        timms.append((*box, lam))
    for ours, theirs in zip([*drawn.box.T, drawn.lam], np.array(timms).T, strict=True):
        assert scipy.stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_sides_of_minmax_boxes_equal_timms_range() -> None:
    np.random.seed(0)  # noqa: NPY002
    y0, y1, _, _ = rand_bbox_minmax((3, 20, 20), (0.25, 0.45), count=2000)
    drawn = _mix(_how("elem", mixup=0.0, cutmix_minmax=(0.25, 0.45)), 2000, height=20, width=20)
    assert set(drawn.box[:, 1] - drawn.box[:, 0]) == set(y1 - y0) == {5, 6, 7, 8}
    # where timm has no length to choose from
    assert set(np.diff(_mix(_how("elem", mixup=0.0, cutmix_minmax=(0.5, 0.5)), 50).box[:, :2]).ravel()) == {16}


@given(
    mode=st.sampled_from(MODES),
    count=st.integers(1, 70),
    repeats=st.integers(1, 5),
    offset=st.integers(0, 4),
    first_id=st.integers(0, 2**60),
)
def test_copies_of_an_image_are_never_mixed(mode: str, count: int, repeats: int, offset: int, first_id: int) -> None:
    # a rank's batch is a stretch of the stream a a a b b b c c c ..., which may begin and end inside a group
    batch = np.repeat(np.arange(count + 2), repeats)[offset % repeats :][:count]
    drawn = _mix(_how(mode, repeats=repeats), count, first_id)
    mixed = drawn.kind != mix.PLAIN
    own = np.arange(count)
    assert (drawn.partner[~mixed] == own[~mixed]).all()
    assert (drawn.partner[mixed] != own[mixed]).all()
    assert mixed.sum() == (0 if count < 2 else count - count % 2 if mode == "pair" else count)
    if count >= 2 * repeats:
        assert (batch[drawn.partner[mixed]] != batch[mixed]).all()


@given(mode=st.sampled_from(MODES), seed=st.integers(0, 2000), height=st.integers(1, 90), width=st.integers(1, 90))
def test_boxes_lie_in_the_view_and_lambda_is_the_share_that_stays(mode: str, seed: int, height: int, width: int) -> None:
    drawn = _mix(_how(mode), 9, height=height, width=width, seed=seed)
    y0, y1, x0, x1 = drawn.box.T
    assert ((y0 >= 0) & (y0 <= y1) & (y1 <= height) & (x0 >= 0) & (x0 <= x1) & (x1 <= width)).all()
    assert ((drawn.lam >= 0) & (drawn.lam <= 1)).all()
    cut = drawn.kind == mix.CUTMIX
    np.testing.assert_allclose(drawn.lam[cut], (1 - (y1 - y0) * (x1 - x0) / (height * width))[cut], atol=1e-12)
    assert not drawn.box[~cut].any()
    assert (drawn.lam[drawn.kind == mix.PLAIN] == 1).all()


@given(count=st.integers(2, 60), seed=st.integers(0, 1000))
def test_pairs_are_mixed_alike_in_both_directions(count: int, seed: int) -> None:
    drawn = _mix(_how("pair", probability=0.8), count, seed=seed)
    np.testing.assert_array_equal(drawn.partner[drawn.partner], np.arange(count))
    for values in (drawn.kind, drawn.lam, drawn.box):
        np.testing.assert_array_equal(values, values[drawn.partner])


def test_a_batch_has_one_mix() -> None:
    for seed in range(20):
        drawn = _mix(_how("batch"), 21, seed=seed)
        shift = drawn.partner[0]
        np.testing.assert_array_equal(drawn.partner, (np.arange(21) + shift) % 21)
        assert len(set(drawn.kind)) == len(set(drawn.lam)) == len({tuple(box) for box in drawn.box}) == 1


def test_each_view_has_its_mix() -> None:
    drawn = _mix(_how("elem"), 64)
    assert len(set(drawn.lam)) > 50  # some boxes are of one area
    assert set(drawn.kind) == {mix.MIXUP, mix.CUTMIX}


@pytest.mark.parametrize("mode", MODES)
def test_mixing_is_drawn_as_asked(mode: str) -> None:
    how = _how(mode, probability=0.7, cutmix_probability=0.4)
    # one number for each draw: a batch, a pair, a view
    mixes = [_mix(how, 64, first_id=1000 * i) for i in range(4000 if mode == "batch" else 100)]
    independent = {"batch": 1, "pair": 32, "elem": 64}[mode]
    kinds = np.concatenate([drawn.kind[:independent] for drawn in mixes])
    lam = np.concatenate([drawn.lam[:independent] for drawn in mixes])
    assert scipy.stats.binomtest(int((kinds > 0).sum()), len(kinds), 0.7).pvalue > 1e-3
    mixed = kinds[kinds > 0]
    assert scipy.stats.binomtest(int((mixed == mix.CUTMIX).sum()), len(mixed), 0.4).pvalue > 1e-3
    assert scipy.stats.kstest(lam[kinds == mix.MIXUP], scipy.stats.beta(0.8, 0.8).cdf).pvalue > 1e-3


def test_partners_are_at_any_distance_alike() -> None:
    shifts = [_mix(_how(), 64, first_id=1000 * i).partner[0] for i in range(4000)]
    assert scipy.stats.chisquare(np.bincount(shifts, minlength=62)[3:62]).pvalue > 1e-3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nothing", [{"mixup": 0.0, "cutmix": 0.0}, {"probability": 0.0}])
def test_nothing_to_mix(mode: str, nothing: dict[str, float]) -> None:
    drawn, plain = _mix(_how(mode, **nothing), 8), mix.unmixed(8)
    for ours, want in zip(drawn, plain, strict=True):
        np.testing.assert_array_equal(ours, want)


def test_a_batchs_mix_follows_its_first_id_alone() -> None:
    ids = rng.pack_view_ids(3, np.arange(8) + 5, np.zeros(8, np.int64))
    others = ids.copy()
    others[1:] += np.uint64(100)
    for ours, theirs in zip(*(mix.mix_of(np.uint64(0), each, _how(), 32, 32) for each in (ids, others)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    later = mix.mix_of(np.uint64(0), ids + np.uint64(1 << 48), _how(), 32, 32)
    assert later.lam[0] != mix.mix_of(np.uint64(0), ids, _how(), 32, 32).lam[0]


def test_a_seed_means_the_same_mix_for_ever() -> None:
    drawn = _mix(_how(cutmix_probability=1.0), 8, first_id=41, seed=6)
    assert (drawn.kind[0], drawn.partner[0], *drawn.box[0]) == (mix.CUTMIX, 5, 8, 25, 0, 16)
