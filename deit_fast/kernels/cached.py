"""Caches compiled functions on disk until a source that they may have taken in changes.

Numba's cache of a function goes stale when the function's own file changes. But a compiled function contains those that it
calls, from whichever file: after a change to `resample.py` the cached code of `decode.py` would go on as before. Here
the cache's stamp covers the function's file and all that this imports, near and far, of `kernels`.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba

from deit_fast.kernels.parts import TARGET

_PACKAGE = Path(__file__).parents[1]
_ROOM = _PACKAGE / "kernels"
_IMPORTS = re.compile(
    rf"^ *(?:from {_PACKAGE.name}([\w.]*) import (\([^)]*\)|[^\n]*)|import {_PACKAGE.name}([\w.]+))", re.MULTILINE
)


@functools.cache
def sources_stamp(source: Path) -> str:
    """A digest of the contents of a Python file and of those that it imports from `kernels`, and these again."""
    seen = {source}
    remaining = [source]
    while remaining:
        found = _read(remaining.pop())[1] - seen
        seen |= found
        remaining += found
    return hashlib.sha256("".join(sorted(_read(path)[0] for path in seen)).encode()).hexdigest()


@functools.cache
def _read(source: Path) -> tuple[str, frozenset[Path]]:
    """The digest of a file with its name, and the files of the room that it imports."""
    content = source.read_bytes()
    digest = hashlib.sha256(source.name.encode() + b"\0" + content).hexdigest()
    return digest, frozenset(_imported(content.decode()))


def _imported(text: str) -> Iterator[Path]:
    for module, names, plain in _IMPORTS.findall(text):
        of_names = [f"{module}.{name}" for name in re.findall(r"\w+", names)]
        for dotted in (module or plain, *of_names):  # a name may be a module's, or a function's within the module
            place = _PACKAGE.joinpath(*dotted.split("."))
            for path in (place.with_suffix(".py"), place / "__init__.py"):
                if path.is_relative_to(_ROOM) and path.is_file():
                    yield path


@functools.cache
def _say_that_nothing_is_cached() -> None:
    print(
        "deit_fast: no folder can be written to for compiled functions: they are compiled anew in each process, which takes "
        "a minute; NUMBA_CACHE_DIR=FOLDER names one",
        file=sys.stderr,
    )


def stamped(dispatcher: Any, function: Callable[..., Any]) -> Any:
    """The dispatcher of a function; its cache on disk lasts as long as the function's sources stay the same."""
    source = Path(function.__code__.co_filename)
    if source.is_file():  # else a notebook's cell, which Numba itself knows by its text
        cache_file = dispatcher._cache._cache_file
        assert hasattr(cache_file, "_source_stamp"), "Numba keeps its cache's stamp elsewhere"
        cache_file._source_stamp = sources_stamp(source)
    return dispatcher


# what Numba would otherwise take from the code that first calls a function: FFCV's is compiled with fastmath
OWN_OPTIONS: dict[str, Any] = {"fastmath": False, "error_model": "python"}


def cached(function: Callable[..., Any], **options: Any) -> Any:
    """The function compiled by numba.njit with these options, cached on disk, for calls from Python."""
    options = OWN_OPTIONS | options
    try:
        dispatcher: Any = numba.njit(cache=True, _target=TARGET, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        _say_that_nothing_is_cached()
        return numba.njit(_target=TARGET, **options)(function)
    return stamped(dispatcher, function)
