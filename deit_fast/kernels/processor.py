"""What the processor can do that functions are compiled for."""

from __future__ import annotations

import platform

import llvmlite.binding
import numba


def has(feature: str) -> bool:
    """Whether code for an x86 processor may use a feature, named as LLVM names it, such as "avx2"; False for another kind."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:  # told to compile for another processor than this one
        return f"+{feature}" in (numba.config.CPU_FEATURES or "").split(",")
    return bool(llvmlite.binding.get_host_cpu_features().get(feature))
