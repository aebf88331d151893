"""Parses timm's policy strings of AutoAugment into sub-policies.

AutoAugment (Cubuk et al. 2018) as read by timm 1.0.31's `auto_augment_transform`. A sub-policy is two operations, each with
its probability in tenths and its magnitude; each view draws one of the 25. `original` is the paper's ImageNet policy
(its Table 9), `v0` that of the TPU EfficientNet code. With r appended, posterising keeps fewer bits at higher magnitudes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deit_fast.config import UserError

# operation, probability in tenths, magnitude; twice
_ORIGINAL = """
    Posterize    4 8   Rotate       6 9
    Solarize     6 5   AutoContrast 6 5
    Equalize     8 8   Equalize     6 3
    Posterize    6 7   Posterize    6 6
    Equalize     4 7   Solarize     2 4
    Equalize     4 4   Rotate       8 8
    Solarize     6 3   Equalize     6 7
    Posterize    8 5   Equalize    10 2
    Rotate       2 3   Solarize     6 8
    Equalize     6 8   Posterize    4 6
    Rotate       8 8   Color        4 0
    Rotate       4 9   Equalize     6 2
    Equalize     0 7   Equalize     8 8
    Invert       6 4   Equalize    10 8
    Color        6 4   Contrast    10 8
    Rotate       8 8   Color       10 2
    Color        8 8   Solarize     8 7
    Sharpness    4 7   Invert       6 8
    ShearX       6 5   Equalize    10 9
    Color        4 0   Equalize     6 3
    Equalize     4 7   Solarize     2 4
    Solarize     6 5   AutoContrast 6 5
    Invert       6 4   Equalize    10 8
    Color        6 4   Contrast    10 8
    Equalize     8 8   Equalize     6 3
"""
_V0 = """
    Equalize     8 1   ShearY        8 4
    Color        4 9   Equalize      6 3
    Color        4 1   Rotate        6 8
    Solarize     8 3   Equalize      4 7
    Solarize     4 2   Solarize      6 2
    Color        2 0   Equalize      8 8
    Equalize     4 8   SolarizeAdd   8 3
    ShearX       2 9   Rotate        6 8
    Color        6 1   Equalize     10 2
    Invert       4 9   Rotate        6 0
    Equalize    10 9   ShearY        6 3
    Color        4 7   Equalize      6 0
    Posterize    4 6   AutoContrast  4 7
    Solarize     6 8   Color         6 9
    Solarize     2 4   Rotate        8 9
    Rotate      10 7   TranslateYRel 8 9
    ShearX       0 0   Solarize      8 4
    ShearY       8 0   Color         6 4
    Color       10 0   Rotate        6 2
    Equalize     8 4   Equalize      0 8
    Equalize    10 4   AutoContrast  6 2
    ShearY       4 7   SolarizeAdd   6 7
    Posterize    8 2   Solarize      6 10
    Solarize     6 8   Equalize      6 1
    Color        8 6   Rotate        4 5
"""
# policy: (table, name of its posterise operation)
POLICIES = {
    "original": (_ORIGINAL, "PosterizeOriginal"),
    "originalr": (_ORIGINAL, "PosterizeIncreasing"),
    "v0": (_V0, "Posterize"),
    "v0r": (_V0, "PosterizeIncreasing"),
}


@dataclass(frozen=True)
class Operation:
    """An operation of a sub-policy."""

    name: str  # timm's name
    probability: float
    magnitude: float


@dataclass(frozen=True)
class AutoAugment:
    """A parsed policy string of AutoAugment."""

    sub_policies: tuple[tuple[Operation, Operation], ...]
    deviation: float  # standard deviation of the magnitudes


def parse(text: str) -> AutoAugment:
    """Parses a string such as original or v0-mstd0.5. Raises UserError for anything that timm would refuse or ignore."""
    name, *parts = text.split("-")
    match = re.fullmatch(r"mstd(\d+(?:\.\d*)?|\.\d+)", parts[0]) if parts else None
    if name not in POLICIES or len(parts) > 1 or (parts and not match):
        names = ", ".join(POLICIES)
        raise UserError(f"augment.auto_augment={text}: want one of {names}, with -mstd and a number or without")
    table, posterise = POLICIES[name]
    return AutoAugment(_sub_policies(table, posterise), float(match[1]) if match else 0.0)


def _sub_policies(table: str, posterise: str) -> tuple[tuple[Operation, Operation], ...]:
    def operation(name: str, tenths: str, magnitude: str) -> Operation:
        return Operation(posterise if name == "Posterize" else name, int(tenths) / 10, float(magnitude))

    rows = (line.split() for line in table.strip().splitlines())
    return tuple((operation(*row[:3]), operation(*row[3:])) for row in rows)
