"""Which betons a text names: lists, patterns, weights, and files whose own names look like these."""

from __future__ import annotations

from pathlib import Path

import pytest

from deit_fast.config import UserError
from deit_fast.data.format.beton_list import absolute, listed_betons, without_weights


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = (
        "a.beton",
        "b.beton",
        "s/01.beton",
        "s/00.beton",
        "s/10.beton",
        "s/00.beton.json",
        "x,y.beton",
        "w.beton*2",
        "q[1].b",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.beton", [("a.beton", 1)]),
        ("missing.beton", [("missing.beton", 1)]),
        ("b.beton,a.beton", [("b.beton", 1), ("a.beton", 1)]),
        ("a.beton*2, b.beton", [("a.beton", 2), ("b.beton", 1)]),
        ("s/*.beton", [("s/00.beton", 1), ("s/01.beton", 1), ("s/10.beton", 1)]),
        ("s/*", [("s/00.beton", 1), ("s/01.beton", 1), ("s/10.beton", 1)]),  # no manifests
        ("s/0?.beton*3,a.beton", [("s/00.beton", 3), ("s/01.beton", 3), ("a.beton", 1)]),
        # a file's own name comes first
        ("x,y.beton", [("x,y.beton", 1)]),
        ("a.beton,x,y.beton*2,b.beton", [("a.beton", 1), ("x,y.beton", 2), ("b.beton", 1)]),
        ("w.beton*2", [("w.beton*2", 1)]),
        ("w.beton*2*2", [("w.beton*2", 2)]),
        ("q[1].b,a.beton", [("q[1].b", 1), ("a.beton", 1)]),
    ],
)
def test_what_is_named(folder: Path, text: str, wanted: list[tuple[str, int]]) -> None:
    listed = listed_betons(text, "data.train")
    assert [(str(path), times) for path, times in listed] == wanted
    names = {path for path, _ in wanted}
    if all((folder / name).exists() for name in names):
        there = absolute(text, "data.train")
        assert [(str(path), times) for path, times in listed_betons(there, "data.train")] == [
            (str(folder / path), times) for path, times in wanted
        ]
        assert [one.times for one in listed_betons(without_weights(text, "data.train"), "data.train")] == [1] * len(wanted)


def test_the_home_folder_stands_in_any_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    wanted = [folder / "a.beton", folder / "s/00.beton"]
    assert [one.path for one in listed_betons("~/a.beton,~/s/00*.beton", "data.train")] == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("t/*.beton", r"data\.train=t/\*\.beton: no file has such a name"),
        ("a.beton,,b.beton", "an empty name between commas"),
        ("a.beton,", "an empty name between commas"),
        ("a.beton*0", "weight 0 of a.beton: want 1 or more"),
        ("a.beton,s/00.beton,s/*.beton", r"names s/00\.beton twice; want s/00\.beton\*2"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        listed_betons(text, "data.train")
