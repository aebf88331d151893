"""Expands braces in a pattern, as in train-{0000..0012}.tar."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def has_braces(pattern: str) -> bool:
    """Whether a pattern has braces that may stand for several names."""
    return _BRACES.search(pattern) is not None


def expanded_braces(pattern: str) -> Iterator[str]:
    """Expands the braces of a pattern; {0000..0012} keeps its number of digits."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, inner, after = pattern[: match.start()], match[1], pattern[match.end() :]
    numbers = _RANGE.fullmatch(inner)
    if numbers is None and "," not in inner:
        yield from (f"{before}{{{inner}}}{rest}" for rest in expanded_braces(after))
        return
    if numbers is None:
        parts: Iterator[str] = iter(inner.split(","))
    else:
        first, last = int(numbers[1]), int(numbers[2])
        width = max(len(text) if text.startswith("0") else 0 for text in numbers.groups())
        parts = (f"{number:0{width}d}" for number in range(first, last + 1) or range(first, last - 1, -1))
    for part in parts:
        yield from (f"{before}{part}{rest}" for rest in expanded_braces(after))
