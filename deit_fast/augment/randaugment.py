"""Parses timm's policy strings of RandAugment into operations and numbers.

RandAugment (Cubuk et al. 2019) as read by timm's `rand_augment_transform`; DeiT uses `rand-m9-mstd0.5-inc1`. What timm
silently ignores (a part without its number, an unknown set) is an error here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from deit_fast.config import UserError
from deit_fast.kernels.operation_table import IN_POLICIES

MAX_LAYERS = 100
MAX_MAGNITUDE = 10.0

_GEOMETRIC = ["ShearX", "ShearY", "TranslateXRel", "TranslateYRel"]
_PLAIN = ["AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd"]
_PLAIN += ["Color", "Contrast", "Brightness", "Sharpness", *_GEOMETRIC]
_INCREASING = [f"{name}Increasing" if f"{name}Increasing" in IN_POLICIES else name for name in _PLAIN]

# sets chosen with t: weights of timm 1.0.31 (_RAND_3A, _RAND_WEIGHTED_3A, _RAND_WEIGHTED_0); weighted sets are drawn without
# replacement
_THREE = ["SolarizeIncreasing", "Desaturate", "GaussianBlur"]
_WEIGHTED_THREE = {
    **dict.fromkeys(_THREE, 6.0),
    "Rotate": 3.0,
    **dict.fromkeys(["ShearX", "ShearY"], 2.0),
    **dict.fromkeys(["PosterizeIncreasing", "AutoContrast", "ColorIncreasing", "SharpnessIncreasing"], 1.0),
    **dict.fromkeys(["ContrastIncreasing", "BrightnessIncreasing", "Equalize", "Invert"], 1.0),
}
_WEIGHTED = {
    "Rotate": 3.0,
    **dict.fromkeys(["ShearX", "ShearY"], 2.0),
    **dict.fromkeys(["TranslateXRel", "TranslateYRel"], 1.0),
    **dict.fromkeys(["ColorIncreasing", "SharpnessIncreasing", "AutoContrast"], 0.25),
    **dict.fromkeys(["SolarizeIncreasing", "SolarizeAdd", "ContrastIncreasing", "BrightnessIncreasing"], 0.05),
    **dict.fromkeys(["Equalize", "PosterizeIncreasing", "Invert"], 0.05),
}
_SETS: dict[str, dict[str, float]] = {
    "3a": dict.fromkeys(_THREE, 1.0),
    "3aw": _WEIGHTED_THREE,
    "weights": _WEIGHTED,
}

_WANT = (
    "want rand with parts m (magnitude), n (layers), p (probability), mstd (its deviation, above 100: uniform), mmax (highest "
    "magnitude), inc (0 or 1), t (weights, 3a or 3aw), such as rand-m9-mstd0.5-inc1"
)

_MOST_MAGNITUDE = 1000.0  # timm's strings go to 10, and mmax slightly further; arguments stay far within int32


@dataclass(frozen=True)
class RandAugment:
    """A parsed policy string of RandAugment."""

    weights: dict[str, float]  # by timm's name of the operation
    with_replacement: bool
    magnitude: float
    num_layers: int
    probability: float  # that a layer applies its operation
    deviation: float  # standard deviation of the magnitude; inf: uniform from 0 to it
    max_magnitude: float


def parse(text: str) -> RandAugment:
    """Parses a string `rand-…`. Raises UserError for anything that timm would refuse or ignore."""
    found: dict[str, str] = {}
    for part in text.split("-")[1:]:
        match = re.fullmatch(r"(t)(\w+)|(mstd|p)(\d+(?:\.\d*)?|\.\d+)|(m|n|mmax)(\d+)|(inc)([01])", part)
        if not match:
            raise UserError(f"augment.auto_augment={text}: cannot read {part!r}: {_WANT}")
        key, value = (group for group in match.groups() if group is not None)
        if key in found:
            raise UserError(f"augment.auto_augment={text}: {key} is there twice: want it once")
        found[key] = value
    deviation = float(found.get("mstd", 0.0))
    weights = _operations(text, found.get("t"), found.get("inc"))
    policy = RandAugment(
        weights=weights,
        with_replacement=found.get("t") in (None, "3a"),
        magnitude=float(found.get("m", 10)),
        num_layers=int(found.get("n", 2)),
        probability=float(found.get("p", 0.5)),
        deviation=math.inf if deviation > 100 else deviation,
        max_magnitude=float(found.get("mmax", MAX_MAGNITUDE)) or MAX_MAGNITUDE,  # timm treats 0 as unset
    )
    most = MAX_LAYERS if policy.with_replacement else len(weights)
    if not 1 <= policy.num_layers <= most:
        raise UserError(f"augment.auto_augment={text}: n{policy.num_layers}: want n1 to n{most}")
    if max(policy.magnitude, policy.max_magnitude) > _MOST_MAGNITUDE:
        raise UserError(f"augment.auto_augment={text}: want magnitudes m and mmax of at most {_MOST_MAGNITUDE:g}")
    if policy.probability > 1:
        raise UserError(f"augment.auto_augment={text}: p{policy.probability:g}: want a probability, p0 to p1")
    return policy


def _operations(text: str, name: str | None, increasing: str | None) -> dict[str, float]:
    if name is None:
        return dict.fromkeys(_INCREASING if increasing == "1" else _PLAIN, 1.0)
    if name not in _SETS:
        raise UserError(f"augment.auto_augment={text}: t{name}: want {', '.join('t' + each for each in _SETS)}")
    if increasing == "0":
        raise UserError(f"augment.auto_augment={text}: inc0: the operations of t{name} are increasing: want inc1, or no inc")
    return _SETS[name]
