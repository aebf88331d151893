"""The operations on views, one row each: names in policies, argument, and what makes them on the CPU.

`operations` applies them on the CPU and `cuda.policy` on a GPU; `policy` draws them; `bench loader` times each. What they
are compared with is in `benchmarks.fidelity.references`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deit_fast.kernels import levels, pixel, view_loops
from deit_fast.kernels.blur import blur, blur_bytes
from deit_fast.kernels.rotation import rotate
from deit_fast.kernels.warp import shear_x, shear_y, translate_x, translate_y, warp_bytes

NOTHING = 0  # the code of a step that does nothing


@dataclass(frozen=True)
class Operation:
    """An operation, with one argument, a float64, which is what Pillow is handed, after all drawing.

    It has either `by_level`, of parameters (level, argument) or (level): what it makes of each grey level by itself, an
    int32, on CPU and GPU. Or a `loop`, which changes a view in place, and a form of its own in `cuda.policy`. A loop is given
    what it names of: view (H, W, 3) uint8, contiguous, or levels, the same as (3 H W,); argument, or factor, the same as
    float32; bicubic, whether it interpolates so, else bilinearly; fill, three ints, the colour of what lies outside; scratch,
    uint8, at least `scratch_bytes(H, W)` long, which holds nothing between calls. All are compiled functions.
    """

    name: str
    argument: str  # its meaning and range; empty: it has none, and is given 0
    timed_with: float  # the argument of which `bench loader` measures the time
    levels: dict[str, Any]  # a name in policies: what makes the argument of a magnitude, see `levels`
    by_level: Any = None
    loop: Any = None
    scratch_bytes: Callable[[int, int], int] | None = None


# in the order of their codes, from 1 on
OPERATIONS = (
    Operation("auto_contrast", "", 0.0, {"AutoContrast": levels.no_argument}, loop=view_loops.auto_contrast),
    Operation(
        "equalize",
        "",
        0.0,
        {"Equalize": levels.no_argument},
        loop=view_loops.equalize,
        scratch_bytes=view_loops.equalize_bytes,
    ),
    Operation("invert", "", 0.0, {"Invert": levels.no_argument}, by_level=pixel.inverted),
    Operation(
        "rotate",
        "degrees counter-clockwise, about the centre",
        27.0,
        {"Rotate": levels.degrees},
        loop=rotate,
        scratch_bytes=warp_bytes,
    ),
    Operation(
        "posterize",
        "bits kept of each channel, 0 to 8",
        4.0,
        {"Posterize": levels.bits, "PosterizeIncreasing": levels.bits_increasing, "PosterizeOriginal": levels.bits_original},
        by_level=pixel.posterized,
    ),
    Operation(
        "solarize",
        "threshold, 0 to 256: values from there on are inverted",
        26.0,
        {"Solarize": levels.threshold, "SolarizeIncreasing": levels.threshold_increasing},
        by_level=pixel.solarized,
    ),
    Operation(
        "solarize_add",
        "what is added to values below 128",
        99.0,
        {"SolarizeAdd": levels.addend},
        by_level=pixel.solarize_added,
    ),
    Operation(
        "color",
        "factor: 0 grey, 1 as it was",
        1.81,
        {"Color": levels.factor, "ColorIncreasing": levels.factor_increasing, "Desaturate": levels.greyness},
        loop=view_loops.color,
    ),
    Operation(
        "contrast",
        "factor: 0 the mean grey, 1 as it was",
        1.81,
        {"Contrast": levels.factor, "ContrastIncreasing": levels.factor_increasing},
        loop=view_loops.contrast,
    ),
    Operation(
        "brightness",
        "factor: 0 black, 1 as it was",
        0.99,
        {"Brightness": levels.factor, "BrightnessIncreasing": levels.factor_increasing},
        by_level=pixel.brightened,
    ),
    Operation(
        "sharpness",
        "factor: 0 smoothed, 1 as it was",
        1.81,
        {"Sharpness": levels.factor, "SharpnessIncreasing": levels.factor_increasing},
        loop=view_loops.sharpness,
        scratch_bytes=view_loops.sharpness_bytes,
    ),
    Operation(
        "shear_x",
        "columns that a row moves for each row down",
        0.27,
        {"ShearX": levels.shear},
        loop=shear_x,
        scratch_bytes=warp_bytes,
    ),
    Operation(
        "shear_y",
        "rows that a column moves for each column to the right",
        0.27,
        {"ShearY": levels.shear},
        loop=shear_y,
        scratch_bytes=warp_bytes,
    ),
    Operation(
        "translate_x",
        "pixels, not rounded",
        30.3,
        {"TranslateXRel": levels.columns},
        loop=translate_x,
        scratch_bytes=warp_bytes,
    ),
    Operation(
        "translate_y",
        "pixels, not rounded",
        30.3,
        {"TranslateYRel": levels.rows},
        loop=translate_y,
        scratch_bytes=warp_bytes,
    ),
    Operation("grey", "", 0.0, {"Grayscale": levels.no_argument}, loop=view_loops.grey),
    Operation(
        "blur",
        "standard deviation of the Gaussian in pixels",
        1.0,
        {"GaussianBlur": levels.sigma, "GaussianBlurRand": levels.sigma_random},
        loop=blur,
        scratch_bytes=blur_bytes,
    ),
)

CODES = {operation.name: code for code, operation in enumerate(OPERATIONS, NOTHING + 1)}
LEVEL_FUNCTIONS = tuple(dict.fromkeys(function for operation in OPERATIONS for function in operation.levels.values()))
# a name in policies: (code, number of its level function)
IN_POLICIES = {
    name: (CODES[operation.name], LEVEL_FUNCTIONS.index(function))
    for operation in OPERATIONS
    for name, function in operation.levels.items()
}
