"""Checks before a run that torch.compile finds the compilers that it calls."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from deit_fast.config import UserError


def check_compiler(mode: str, device: torch.device) -> None:
    """Raises UserError if train.compile=mode wants a compiler that this machine lacks.

    On a CPU torch.compile writes C++; on a GPU Triton builds a launcher in C for each kernel. CXX and CC come first."""
    if mode == "off":
        return
    variable, language, usual = ("CC", "C", ("gcc", "clang")) if device.type == "cuda" else ("CXX", "C++", ("g++",))
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError(f"train.compile={mode}: Triton is not installed; install the package triton, or choose off")
    asked = os.environ.get(variable)
    if not any(shutil.which(name) for name in ((asked,) if asked else usual)):
        what = f"{variable}={asked} is none" if asked else f"there is no {' or '.join(usual)} in PATH"
        raise UserError(
            f"train.compile={mode}: needs a {language} compiler, and {what}; install one (Debian: apt install g++), set "
            f"{variable} to its path, or choose off"
        )
