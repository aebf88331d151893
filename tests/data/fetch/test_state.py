"""The record of a copy knows which bytes are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.data.fetch.remote import Version
from deit_fast.data.fetch.state import State, read_state

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted), max_size=8)


@given(RANGES, st.integers(0, 40), st.integers(0, 40))
def test_gaps_are_what_was_not_added(ranges: list[list[int]], start: int, end: int) -> None:
    state = State(Version(40, ""), None)
    there: set[int] = set()
    for one_start, one_end in ranges:
        if one_start < one_end:
            state.add(one_start, one_end)
            there.update(range(one_start, one_end))
    assert state.num_done == len(there)
    gaps = state.gaps(start, end)
    assert [byte for gap in gaps for byte in range(*gap)] == [byte for byte in range(start, end) if byte not in there]
    assert all(gap_start < gap_end for gap_start, gap_end in gaps)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    state = State(Version(40, '"a"'), Version(3, ""), [[0, 4], [8, 9]], True, 12.5, True)
    state.save(tmp_path / "copy.json")
    assert read_state(tmp_path / "copy.json") == state
    assert read_state(tmp_path / "missing.json") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1, "manifest": null}', '{"version": {}, "manifest": null}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "copy.json").write_text(content)
    assert read_state(tmp_path / "copy.json") is None
