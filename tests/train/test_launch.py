"""torchrun's environment, and what contradicts itself in it: one line, whichever rank meets it."""

from __future__ import annotations

import pytest

from deit_fast.__main__ import main
from deit_fast.config import RankError
from deit_fast.train.launch import Launch, launch_of_environment

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_WHOLE = dict(zip(_NAMES, ("5", "8", "1", "4", "a", "29500"), strict=True))


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, Launch(0, 1, 0, 1)),
        ({"WORLD_SIZE": "1"}, Launch(0, 1, 0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Launch(0, 1, 0, 1)),
        (_WHOLE, Launch(5, 8, 1, 4)),
    ],
)
def test_a_place_is_what_the_environment_says(
    environment: dict[str, str], wanted: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, environment)
    assert launch_of_environment() == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": None}, "WORLD_SIZE=8 is set and RANK is not"),
        ({"WORLD_SIZE": None}, "RANK=5 is set and WORLD_SIZE is not"),
        ({"RANK": "8"}, "RANK=8: want 0 to 7"),
        ({"RANK": "-1"}, "RANK=-1: want a whole number"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: want a whole number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE=: want a whole number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: want a whole number of at least 1"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x: want a whole number"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0: want a whole number of at least 1"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT=99999: want 1 to 65535"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {name: value for name, value in (_WHOLE | changes).items() if value is not None})
    with pytest.raises(RankError, match=message):
        launch_of_environment()


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"RANK": "1"}, {"RANK": "one", "WORLD_SIZE": "2"}])
def test_a_command_says_so_in_one_line(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _set(monkeypatch, environment)
    assert main(["train", "--data.train=a.beton", "--data.val=b.beton"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("deit-fast train: ")
    assert "RANK" in line
