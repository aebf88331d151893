"""Takes the strength of colour jitter, gives the three steps of a view in their random order.

As torchvision's `ColorJitter(x, x, x)`, which is what timm makes of `color_jitter=x`: brightness, contrast and saturation in
random order, each by a factor uniform on max(0, 1 - x) to 1 + x. No hue.
"""

from __future__ import annotations

from deit_fast.augment import rng
from deit_fast.augment.compiled import compiled
from deit_fast.augment.operation_codes import BRIGHTNESS, COLOR, CONTRAST

NUM_STEPS = 3


@compiled()
def draw_jitter(seed, view_id, strength, first, codes, arguments):  # type: ignore[no-untyped-def]
    """Fills steps first to first + 2 of a view. codes (S,) int32, arguments (S,) float64."""
    u0, u1, u2, u3 = rng.uniforms(seed, view_id, rng.JITTER, 0)
    low = max(0.0, 1.0 - strength)
    span = 1.0 + strength - low
    # the six orders of 0, 1, 2: which is first, and whether the others follow in a rising cycle
    order = rng.below(u3, 6)
    begin = order // 2
    second = (begin + 1 + order % 2) % 3
    places = (begin, second, 3 - begin - second)
    for step in range(3):
        place = places[step]
        codes[first + step] = BRIGHTNESS if place == 0 else (CONTRAST if place == 1 else COLOR)
        arguments[first + step] = low + span * (u0 if place == 0 else (u1 if place == 1 else u2))
