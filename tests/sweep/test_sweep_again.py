"""A sweep that is run again in its folder: points may be added and nothing else, and results are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deit_fast.config import UserError
from tests.sweep.sweeps import (
    attempts,
    lines,
    make_file,
    run,
)


def test_points_are_added_and_nothing_else(tmp_path: Path, out: Path) -> None:
    run(make_file(tmp_path, [1, 2]), out)
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def refusal(file: str, *words: str) -> str:
        with pytest.raises(UserError) as caught:
            run(file, out, *words)
        assert content == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        return str(caught.value)

    assert "point train.seed=2 is gone from it" in refusal(make_file(tmp_path, [1, 3]))
    file = make_file(tmp_path, [1, 2, 3])
    assert "train.epochs was its default, and is 7" in refusal(file, "--train.epochs=7")
    assert 'data.train was "a", and is "c"' in refusal(file, "--data.train=c")
    # where and at what price it runs may change
    run(make_file(tmp_path, [3, 2, 1], "list: [{}, {train.epochs: 9}]"), out, "--run.dollars_per_hour=3")
    names = [name for name, *_ in attempts(out)]
    assert names[:3] == ["train.seed=1", "train.seed=2", "train.seed=3"]
    assert len(names) == 5 and len(set(names)) == 5


def test_a_sweep_of_a_version_without_words_goes_on(tmp_path: Path, out: Path) -> None:
    file, off = make_file(tmp_path, [1]), "--optim.lr_batch_size=off"
    run(file, out, off)
    described = json.loads((out / "sweep.json").read_text())
    assert described["shared"]["optim.lr_batch_size"] == "off"
    described["shared"]["optim.lr_batch_size"] = 0
    (out / "sweep.json").write_text(json.dumps(described))
    run(file, out, off)
    with pytest.raises(UserError, match=r'optim\.lr_batch_size was "off", and is its default; points may only be added'):
        run(file, out)


def test_another_recipe_of_the_same_name_is_refused(tmp_path: Path, out: Path) -> None:
    plain = "  plain: {train.epochs: 6}\n  long: {train.epochs: %d}"
    run(make_file(tmp_path, [1], f"recipes:\n{plain % 8}"), out)
    with pytest.raises(UserError, match=r"train\.epochs was 8, and is 9; points may only be added"):
        run(make_file(tmp_path, [1], f"recipes:\n{plain % 9}"), out)
    run(make_file(tmp_path, [1], f"recipes:\n{plain % 8}\n  other: {{}}"), out)
    assert len(attempts(out)) == 3


def test_an_option_that_only_some_points_set_is_no_change(tmp_path: Path, out: Path) -> None:
    file = make_file(tmp_path, [1], "list: [{train.epochs: 9, train.seed: 2}]")
    run(file, out, "--train.log_every=7")
    run(file, out, "--train.log_every=7")
    assert len(attempts(out)) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{}", "holds a run"),
        ("", "", "is not a folder"),
        ("sweep.json", "[", "sweep.json: broken"),
        ("points.jsonl", '{"event": "point"}\nbroken\n{"event": "point"}\n', "points.jsonl: line 2 is broken"),
    ],
)
def test_folders_that_are_no_sweeps(tmp_path: Path, out: Path, name: str, content: str, message: str) -> None:
    path = out / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        run(make_file(tmp_path, [1]), out)
    assert not (out / "train.seed=1").exists()


def test_a_result_that_was_not_recorded_is_not_made_again(tmp_path: Path, out: Path) -> None:
    """The sweep was killed between a point's end and its line."""
    file = make_file(tmp_path, [1, 2])
    run(file, out)
    log = out / "points.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    run(file, out)
    assert [name for name, *_ in attempts(out)] == ["train.seed=1", "train.seed=2"]
    assert [len(lines(out / f"train.seed={seed}", "starts")) for seed in (1, 2)] == [1, 1]
