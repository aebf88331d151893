"""Policy strings of RandAugment against timm's reading of them."""

import math

import pytest
from timm.data import auto_augment as timms

from deit_fast.augment import randaugment
from deit_fast.config import UserError


@pytest.mark.parametrize(
    "text",
    [
        "rand",
        "rand-m9-mstd0.5-inc1",
        "rand-m9-n3-p0.7-mstd0.5",
        "rand-m15-mmax20-inc1",
        "rand-m7-mstd101",
        "rand-m7-mstd100",
        "rand-inc0",
        "rand-m9-tweights-n3",
        "rand-t3a-inc1",
        "rand-t3aw-m6",
        "rand-p1-n1",
        "rand-mmax0",
    ],
)
def test_strings_are_read_as_timm_reads_them(text: str) -> None:
    want = timms.rand_augment_transform(text)
    policy = randaugment.parse(text)
    assert set(policy.weights) == {op.name for op in want.ops}
    assert policy.num_layers == want.num_layers
    assert policy.with_replacement == (want.choice_weights is None)
    if want.choice_weights is not None:
        total = sum(policy.weights.values())
        for op, weight in zip(want.ops, want.choice_weights, strict=True):
            assert policy.weights[op.name] / total == pytest.approx(weight)
    for op in want.ops:
        assert (op.magnitude, op.prob, op.magnitude_std) == (policy.magnitude, policy.probability, policy.deviation)
        assert (op.magnitude_max or 10) == policy.max_magnitude


def test_a_deviation_above_100_is_infinite() -> None:
    assert randaugment.parse("rand-mstd101").deviation == math.inf
    assert randaugment.parse("rand-mstd100").deviation == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rand-m9-x3", "cannot read 'x3': want rand with parts m"),
        ("rand-m9-w0", "cannot read 'w0'"),
        ("rand-m9.5", r"cannot read 'm9\.5'"),
        ("rand-mstd", "cannot read 'mstd'"),  # timm ignores it
        ("rand-mstdinf", r"mstd \(its deviation, above 100: uniform\)"),  # and this one
        ("rand-inc2", "cannot read 'inc2'"),
        ("rand-", "cannot read ''"),
        ("rand-m9-m8", "m is there twice"),
        ("rand-n0", "n0: want n1 to n100"),
        ("rand-tweights-n16", "n16: want n1 to n15"),
        ("rand-p1.5", r"p1\.5: want a probability"),
        ("rand-m1001", "want magnitudes m and mmax of at most 1000"),
        ("rand-mmax" + "9" * 400, "want magnitudes m and mmax of at most 1000"),
        ("rand-tfoo", "tfoo: want t3a, t3aw, tweights"),
        ("rand-tweights-inc0", "inc0: .* want inc1, or no inc"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        randaugment.parse(text)
    assert "\n" not in str(caught.value)
