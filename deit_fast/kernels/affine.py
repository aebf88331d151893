"""The affine maps of the operations that move pixels, for CUDA kernels, which make all of these in one way."""

from __future__ import annotations

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.operation_table import CODES
from deit_fast.kernels.rotation import rotation

ROTATE, SHEAR_X, SHEAR_Y = CODES["rotate"], CODES["shear_x"], CODES["shear_y"]
TRANSLATE_X, TRANSLATE_Y = CODES["translate_x"], CODES["translate_y"]


@compiled()
def affine_map(code, argument, height, width):  # type: ignore[no-untyped-def]
    """The map of an operation, as `rotation` has it; not for rotations by multiples of 90 degrees."""
    if code == ROTATE:
        return rotation(argument, height, width)
    x_row = argument if code == SHEAR_X else 0.0
    x_offset = argument if code == TRANSLATE_X else 0.0
    y_column = argument if code == SHEAR_Y else 0.0
    y_offset = argument if code == TRANSLATE_Y else 0.0
    return 1.0, x_row, x_offset, y_column, 1.0, y_offset
