"""Aligns the columns of tables that commands print."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], sides: str, gap: str = "  ") -> list[str]:
    """The lines of a table. sides: of each column, "<" for text at its left, ">" at its right; gap: between columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True)] for row in rows]
    return [gap.join(row).rstrip() for row in cells]
