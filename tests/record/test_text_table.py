from __future__ import annotations

from deit_fast.record.text_table import text_table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("run", "hours", ""), ("a", "0.5", "the first"), ("longer", "–", "")]
    assert text_table(rows, "<><") == ["run     hours", "a         0.5  the first", "longer      –"]
