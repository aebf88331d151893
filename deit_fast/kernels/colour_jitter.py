"""Takes the strength of colour jitter, gives the three steps of a view in their random order.

As torchvision's `ColorJitter(x, x, x)`, which is what timm makes of `color_jitter=x`: brightness, contrast and saturation in
random order, each by a factor uniform on max(0, 1 - x) to 1 + x. No hue.
"""

from __future__ import annotations

from deit_fast.kernels import rng
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.operation_table import CODES

NUM_STEPS = 3

_BRIGHTNESS, _CONTRAST, _COLOR = CODES["brightness"], CODES["contrast"], CODES["color"]


@compiled()
def draw_jitter(seed, view_id, strength, first, codes, arguments):  # type: ignore[no-untyped-def]
    """Fills steps first to first + 2 of a view. codes (S,) int32, arguments (S,) float64."""
    drawn_codes, drawn_arguments = jitter_steps(seed, view_id, strength)
    for i in range(NUM_STEPS):
        codes[first + i], arguments[first + i] = drawn_codes[i], drawn_arguments[i]


@compiled()
def jitter_steps(seed, view_id, strength):  # type: ignore[no-untyped-def]
    """(three codes, three arguments) of the steps of a view, int64 and float64."""
    u0, u1, u2, u3 = rng.uniforms(seed, view_id, rng.JITTER, 0)
    # the six orders of 0, 1, 2: which is first, and whether the others follow in a rising cycle
    order = rng.below(u3, 6)
    first = order // 2
    second = (first + 1 + order % 2) % 3
    third = 3 - first - second
    low = max(0.0, 1.0 - strength)
    span = 1.0 + strength - low
    codes = _code(first), _code(second), _code(third)
    return codes, (
        low + span * _of(first, u0, u1, u2),
        low + span * _of(second, u0, u1, u2),
        low + span * _of(third, u0, u1, u2),
    )


@compiled()
def _code(place):  # type: ignore[no-untyped-def]
    return _of(place, _BRIGHTNESS, _CONTRAST, _COLOR)


@compiled()
def _of(place, first, second, third):  # type: ignore[no-untyped-def]
    return first if place == 0 else (second if place == 1 else third)
