"""Compiled functions that call one of several others, by a number.

Numba has no table of functions that costs nothing at run time. So the comparisons are written as text, and compiled as if they
stood in a file.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np


def function_of(text: str, names: Mapping[str, Any], module: str) -> Callable[..., Any]:
    """The Python function that a text defines; names: what it calls. To Numba it stands in the file of a module.

    The file is where Numba keeps its cache, which lasts until the file changes or one that it imports (`compiled`): the
    module must import all that decides the text. Within it, the function's name must be its only one.
    """
    namespace: dict[str, Any] = {"__name__": module, "np": np, **names}
    exec(compile(text, sys.modules[module].__file__ or "", "exec"), namespace)
    function: Callable[..., Any] = namespace[text[len("def ") : text.index("(")]]
    return function


def call_of(name: str, function: Any) -> str:
    """The text of a call under a name, with arguments named as the function's parameters."""
    return f"{name}({', '.join(inspect.signature(function).parameters)})"


def choosing(
    heading: str, functions: Mapping[int, Any], module: str, *, setup: Iterable[str] = (), otherwise: str = "return None"
) -> Callable[..., Any]:
    """The Python function that returns what the function of a number returns, for Numba to compile; see `function_of`.

    heading: its name and parameters, the first of which is the number, such as `apply(code, view)`. functions: of numbers,
    compiled; each is given the variables that its parameters are named for: of the heading, or of the lines of `setup`.
    Neighbours of one function are one branch. otherwise: the last line, for other numbers.
    """
    number = heading[heading.index("(") + 1 : heading.index(",")]
    names: dict[str, Any] = {}
    branches: dict[str, list[str]] = {}
    for code, function in functions.items():
        name = next((known for known, other in names.items() if other is function), f"function_{code}")
        names[name] = function
        branches.setdefault(call_of(name, function), []).append(f"{number} == {code}")
    lines = [f"def {heading}:", *setup]
    for call, conditions in branches.items():
        lines += [f"if {' or '.join(conditions)}:", f"    return {call}"]
    return function_of("\n    ".join([*lines, otherwise]), names, module)
