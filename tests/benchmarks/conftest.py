"""While a kind of bench runs from the command line, every option that it reads must be one that it takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from deit_fast.commands import COMMANDS, Call, Command, Group
from tests.benchmarks.reads import not_taken, options_read


def checked(kind: Command) -> Command:
    """The kind, whose run fails if it reads an option that it does not take."""

    def run(call: Call) -> dict[str, Any]:
        with options_read(call.config) as read:
            result = kind.run(call)
        assert not_taken(read, kind) == []
        return result

    return dataclasses.replace(kind, run=run)


@pytest.fixture(autouse=True)
def _kinds_read_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    group = COMMANDS["bench"]
    assert isinstance(group, Group)
    kinds = {name: checked(kind) for name, kind in group.kinds.items()}
    monkeypatch.setitem(COMMANDS, "bench", dataclasses.replace(group, kinds=kinds))
