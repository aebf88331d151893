"""Reads a variable from a MATLAB file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError


def matlab_variable(content: bytes, location: str, name: str) -> NDArray[Any]:
    """The variable as a flat array. Raises UserError with `location` if it cannot be read."""
    from scipy.io import loadmat

    try:
        variables = loadmat(io.BytesIO(content), squeeze_me=True)
    except Exception as error:  # SciPy may raise anything for a damaged file
        raise UserError(f"{location}: not a MATLAB file, or damaged: {error}; fetch it again") from error
    if name not in variables:
        present = ", ".join(sorted(key for key in variables if not key.startswith("__")))
        raise UserError(f"{location}: has no variable {name!r}, but {present or 'none'}; want the file as it is distributed")
    return np.atleast_1d(variables[name]).ravel()


def matlab_field(records: NDArray[Any], location: str, name: str) -> list[Any]:
    """A field of each record. Raises UserError with `location` if records lack a field of this name."""
    if records.dtype.names is None or name not in records.dtype.names:
        raise UserError(f"{location}: its records have no field {name!r}; want the file as it is distributed")
    return [record[name] for record in records]
