"""Arguments of operations against timm's level functions."""

import numpy as np
import pytest
from timm.data import auto_augment as timms

from deit_fast.kernels.operation_table import IN_POLICIES
from deit_fast.kernels.policy import argument_of
from tests.augment.timms_policies import step_of

HEIGHT, WIDTH = 200, 96


@pytest.mark.parametrize("is_negative", [False, True])
@pytest.mark.parametrize("name", sorted(set(IN_POLICIES) & set(timms.NAME_TO_OP) - {"GaussianBlurRand"}))
def test_arguments_equal_timms(name: str, is_negative: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timms, "_randomly_negate", lambda value: -value if is_negative else value)
    level_function = timms.LEVEL_TO_ARG[name]
    code, function = IN_POLICIES[name]
    for magnitude in [*np.linspace(0, 10, 401), 12.0, 19.9, 30.0]:
        level_arguments = level_function(magnitude, {}) if level_function else ()
        argument = argument_of(function, magnitude, is_negative, 0.5, HEIGHT, WIDTH)
        assert (code, argument) == pytest.approx(step_of(name, level_arguments, HEIGHT, WIDTH), abs=1e-12)


def test_random_blur_is_between_a_tenth_and_twice_the_level() -> None:
    _, function = IN_POLICIES["GaussianBlurRand"]
    for uniform, want in ((0.0, 0.1), (0.5, 1.05), (1.0, 2.0)):
        assert argument_of(function, 10.0, False, uniform, HEIGHT, WIDTH) == pytest.approx(want)
    assert argument_of(function, 5.0, False, 1.0, HEIGHT, WIDTH) == pytest.approx(1.0)


def test_all_of_timms_but_those_of_fixed_pixels_are_there() -> None:
    """Its policies have none of the two that move views by pixels instead of by a share of them."""
    assert set(timms.NAME_TO_OP) - set(IN_POLICIES) == {"TranslateX", "TranslateY"}
