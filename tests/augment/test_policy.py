"""What policies draw against what timm's own code draws, by distribution."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import scipy.stats

from deit_fast.augment.policy import parse
from deit_fast.config import UserError
from deit_fast.kernels import policy as policies
from deit_fast.kernels.operation_table import CODES, NOTHING
from deit_fast.kernels.resample import BICUBIC, BILINEAR
from tests.augment.timms_policies import Step, drawn_by_timm
from tests.scale import scaled

HEIGHT, WIDTH = 224, 160
BRIGHTNESS, CONTRAST, COLOR = CODES["brightness"], CODES["contrast"], CODES["color"]
GREY, SOLARIZE, BLUR = CODES["grey"], CODES["solarize"], CODES["blur"]


def _drawn(text: str, count: int, color_jitter: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    policy = parse(text, color_jitter, "bicubic")
    codes, arguments = np.full((count, policy.num_steps), -1, np.int32), np.full((count, policy.num_steps), np.nan)
    ids = np.arange(count, dtype=np.uint64) + np.uint64(5 << 48)
    policies.draw_steps(np.uint64(seed), ids, policy, HEIGHT, WIDTH, codes, arguments)
    return codes, arguments


def _fired(codes: np.ndarray, arguments: np.ndarray) -> list[list[Step]]:
    views = zip(codes.tolist(), arguments.tolist(), strict=True)
    return [[step for step in zip(*view, strict=True) if step[0] != NOTHING] for view in views]


def _assert_same_distribution(ours: list[list[Step]], theirs: list[list[Step]]) -> None:
    """Which operations come together, first two of them in order, and the arguments of each operation."""
    sequences = [Counter((len(steps), *(code for code, _ in steps[:2])) for steps in views) for views in (ours, theirs)]
    names = set(sequences[0]) | set(sequences[1])
    often = [name for name in names if sequences[0][name] + sequences[1][name] >= 20]
    rest = [sum(counts[name] for name in names - set(often)) for counts in sequences]
    table = [[counts[name] for name in often] + [few] * (few > 0) for counts, few in zip(sequences, rest, strict=True)]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3

    arguments: list[dict[int, list[float]]] = [defaultdict(list), defaultdict(list)]
    for by_code, views in zip(arguments, (ours, theirs), strict=True):
        for steps in views:
            for code, argument in steps:
                by_code[code].append(argument)
    assert set(arguments[0]) == set(arguments[1])
    for code in arguments[0]:
        # the same level may come out a last digit apart
        mine, timms = (np.round(by_code[code], 9) for by_code in arguments)
        assert scipy.stats.ks_2samp(mine, timms).pvalue > 1e-4, code
        # signs and thresholds: whatever takes few values, exactly as often
        values = np.union1d(mine, timms)
        if 1 < len(values) < 50:
            counts = [[(drawn == value).sum() for value in values] for drawn in (mine, timms)]
            common = np.array(counts)[:, np.sum(counts, 0) >= 20]
            assert common.shape[1] < 2 or scipy.stats.chi2_contingency(common).pvalue > 1e-4, code


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("rand-m9-mstd0.5-inc1", 100_000),
        ("rand-m9-n3-p0.7-mstd0.5", 30_000),
        ("rand-m6", 30_000),
        ("rand-m9-mstd0-inc1-p1", 30_000),
        ("rand-m12-mmax20-mstd3-inc1", 30_000),
        ("rand-m8-mstd101-inc1", 30_000),
        ("rand-m10-n4-tweights-p0.9", 30_000),
        ("rand-t3aw-m7-mstd1", 20_000),
        ("rand-t3a-m7", 10_000),
        ("original", 100_000),
        ("original-mstd0.5", 50_000),
        ("originalr", 30_000),
        ("v0", 50_000),
        ("v0r-mstd1", 30_000),
    ],
)
def test_steps_are_distributed_as_timms(text: str, count: int) -> None:
    """By so many views, or a share of them: by all of them no difference was found."""
    count = scaled(count, 6_000)
    theirs = drawn_by_timm(text, count, HEIGHT, WIDTH)
    _assert_same_distribution(_fired(*_drawn(text, count)), theirs)


def test_3_augment_is_distributed_as_timms() -> None:
    # timm greys by a colour factor of 0
    count = 30_000
    theirs = [
        [(GREY if step[0] == COLOR else step[0], step[1]) for step in steps] for steps in drawn_by_timm("3a", count, 9, 9)
    ]
    ours = _fired(*_drawn("3a", count))
    _assert_same_distribution(ours, theirs)
    assert {step for steps in ours for step in steps if step[0] != BLUR} == {(GREY, 0.0), (SOLARIZE, 128.0)}
    radii = [step[1] for steps in ours for step in steps if step[0] == BLUR]
    assert scipy.stats.kstest(radii, scipy.stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3


def test_jitter_comes_after_the_policy_and_leaves_it_as_it_is() -> None:
    for text, num_steps in (("rand-m9-mstd0.5-inc1", 2), ("v0", 2), ("3a", 1), ("", 0)):
        codes, arguments = _drawn(text, 200)
        with_jitter, jittered = _drawn(text, 200, 0.3)
        assert with_jitter.shape == (200, num_steps + 3)
        np.testing.assert_array_equal(with_jitter[:, :num_steps], codes)
        np.testing.assert_array_equal(jittered[:, :num_steps], arguments)
        np.testing.assert_array_equal(np.sort(with_jitter[:, num_steps:]), np.sort([[BRIGHTNESS, CONTRAST, COLOR]] * 200))
        assert ((jittered[:, num_steps:] >= 0.7) & (jittered[:, num_steps:] < 1.3)).all()


def test_nothing_is_drawn_where_all_is_off() -> None:
    policy = parse("", 0.0, "bilinear")
    assert policy.num_steps == 0
    assert _drawn("", 3)[0].shape == (3, 0)


def test_steps_of_a_view_are_independent() -> None:
    codes, arguments = _drawn("rand-m5-mstd101-p1", 50_000)
    table = np.zeros((17, 17))
    np.add.at(table, (codes[:, 0], codes[:, 1]), 1)
    table = table[table.any(1)][:, table.any(0)]
    assert table.shape == (15, 15)
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    both = (codes == CONTRAST).all(1)
    assert abs(np.corrcoef(arguments[both].T)[0, 1]) < 0.3


def test_steps_follow_seed_and_view_alone() -> None:
    text = "rand-m9-mstd0.5-inc1"
    codes, arguments = _drawn(text, 500)
    again, _ = _drawn(text, 100)
    np.testing.assert_array_equal(codes[:100], again)
    assert (_drawn(text, 500, seed=2)[0] != codes).any()
    # for ever
    assert codes[:4].tolist() == [[0, 10], [0, 15], [15, 0], [0, 5]]
    np.testing.assert_allclose(
        arguments[:4], np.array([[0.0, 1.80076], [0.0, -90.99024], [-93.5242, 0.0], [0.0, 1.0]]), atol=1e-4
    )


def test_interpolation_goes_along() -> None:
    assert parse("", 0.0, "bicubic").interpolation == BICUBIC
    assert parse("", 0.0, "bilinear").interpolation == BILINEAR


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("augmix-m5", 0.0, "bicubic"), "augment.auto_augment=augmix-m5: want rand-… as in timm, original, .*, 3a, or off"),
        (("3a-mstd0.5", 0.0, "bicubic"), "augment.auto_augment=3a-mstd0.5: want"),
        (("random", 0.0, "bicubic"), "augment.auto_augment=random: want"),
        (("rand-z", 0.0, "bicubic"), "cannot read 'z'"),
        (("", -0.1, "bicubic"), "augment.color_jitter=-0.1: want >= 0"),
        (("", float("nan"), "bicubic"), "augment.color_jitter=nan: want >= 0"),
        (("", 0.0, "lanczos"), "data.interpolation=lanczos: want bicubic or bilinear"),
    ],
)
def test_what_cannot_be_read_is_named(arguments: tuple[str, float, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(*arguments)
