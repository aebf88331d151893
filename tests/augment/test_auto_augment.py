"""AutoAugment's tables against timm's."""

import pytest
from timm.data import auto_augment as timms

from deit_fast.augment import auto_augment
from deit_fast.config import UserError


@pytest.mark.parametrize("name", list(auto_augment.POLICIES))
def test_tables_equal_timms(name: str) -> None:
    want = [[(op.name, op.prob, op.magnitude) for op in sub_policy] for sub_policy in timms.auto_augment_policy(name)]
    policy = auto_augment.parse(name)
    assert [[(op.name, op.probability, op.magnitude) for op in pair] for pair in policy.sub_policies] == want
    assert policy.deviation == 0


def test_deviation_is_read() -> None:
    assert auto_augment.parse("v0-mstd0.5").deviation == 0.5


@pytest.mark.parametrize("text", ["v1", "original-m9", "original-mstd", "v0-mstd0.5-inc1", "v0-"])
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(UserError, match=f"augment.auto_augment={text}: want one of original, originalr, v0, v0r, with -mstd"):
        auto_augment.parse(text)
