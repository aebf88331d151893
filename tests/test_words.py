"""`off`, `auto`, `unlimited` and `all`: the same on the command line, in YAML and in Python, for every option that has one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from deit_fast.cli import help_text, parse
from deit_fast.config import (
    AugmentConfig,
    BenchConfig,
    DataConfig,
    Declared,
    RunConfig,
    UserError,
    as_now,
    check_loading,
    declared,
    in_words,
    set_kind,
    value_now,
)
from tests.commands.every import every_command

WORDS = {"off", "auto", "unlimited", "all"}
WITH_WORD = {key: one for key, one in declared().items() if one.word}
# what a command needs, without a default that means something
NO_DEFAULT = {
    "analyse.run", "data.train", "data.val", "distil.teacher_weights", "eval.checkpoint", "export.checkpoint", "filter.betons",
    "filter.out", "inspect.beton", "merge.betons", "merge.out", "predict.images", "predict.model", "report.runs", "source.path",
    "split.betons", "subset.betons", "subset.out", "sweep.file", "teach.out", "verify.beton", "write.out",
}  # fmt: skip


def command_of(key: str) -> list[str]:
    """The words of a command that takes an option."""
    return next(words.split() for words, command in every_command().items() if command.has(key))


def read(key: str, *words: str) -> Any:
    section, name = key.split(".")
    command, *kind = command_of(key)
    return getattr(getattr(parse(command, [*kind, *words]), section), name)


def error(key: str, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        read(key, *words)
    return str(caught.value)


def in_yaml(folder: Path, key: str, text: str) -> str:
    section, name = key.split(".")
    path = folder / "a.yaml"
    path.write_text(f"{section}:\n  {name}: {text}\n", encoding="utf-8")
    return f"--config-file={path}"


def unset(one: Declared) -> Any:
    """The value in Python; of a tuple in which a word may stand for a number, one such number."""
    return (None,) if has_words_inside(one) else one.unset


def has_words_inside(one: Declared) -> bool:
    return get_origin(one.kind) is tuple and get_args(one.kind)[0] is not set_kind(get_args(one.kind)[0])


def old_numbers(one: Declared) -> list[Any]:
    """The numbers that earlier versions had for a word, 0 and -1, in the option's form, unless they are in its range."""
    count = len(get_args(one.kind)) if get_origin(one.kind) is tuple else 0
    numbers = [(number,) * count if count else number for number in (0, -1)]
    is_number = one.within is not None and not has_words_inside(one)
    return [number for number in numbers if is_number and one.within is not None and not one.within.holds(number)]


def test_every_option_that_can_be_unset_says_so_by_one_of_four_words() -> None:
    for key, one in declared().items():
        assert not re.search(r"(\b0|-1|empty|none|no limit):", one.meaning), key
        assert one.word in {"", *WORDS}
        assert bool(one.word) or (one.kind is one.hint and not has_words_inside(one)), key
        assert bool(one.word) or one.default not in ("", ()) or key in NO_DEFAULT, key
    assert all(one.default in ("", ()) and not one.word for key, one in declared().items() if key in NO_DEFAULT)
    assert {one.word for one in WITH_WORD.values()} == WORDS


@pytest.mark.parametrize("key", WITH_WORD)
def test_the_word_leaves_an_option_unset(key: str, tmp_path: Path) -> None:
    one = WITH_WORD[key]
    assert read(key, f"--{key}={one.word}") == unset(one)
    for text in (one.word, f"'{one.word}'", "null", ""):  # a bare `off` is False in YAML 1.1
        assert read(key, in_yaml(tmp_path, key, text)) == unset(one)
    section, name = key.split(".")
    default = getattr(RunConfig(), section)
    assert getattr(type(default)(**{name: (one.word,) if has_words_inside(one) else one.word}), name) == unset(one)
    assert in_words(key, unset(one)) == ((one.word,) if has_words_inside(one) else one.word)


@pytest.mark.parametrize("key", WITH_WORD)
def test_what_stood_for_the_word_is_refused_and_the_word_named(key: str, tmp_path: Path) -> None:
    one = WITH_WORD[key]
    if one.within is None:  # of texts: nothing between the quotes
        assert re.fullmatch(rf"command line: {key}=: want (texts?|a YAML list).*, or {one.word}", error(key, f"--{key}="))
        empty = "''" if one.unset == "" else "[]"
        assert error(key, in_yaml(tmp_path, key, empty)).endswith(f", or {one.word}")
        return
    if has_words_inside(one):
        assert error(key, f"--{key}=0") == f"{key}=(0,): want {one.within.words}, or {one.word}"
        return
    assert old_numbers(one)
    for number in old_numbers(one):
        text = ",".join(map(str, number)) if isinstance(number, tuple) else str(number)
        assert error(key, f"--{key}={text}").endswith(f": want {one.within.words}, or {one.word}")
        assert error(key, in_yaml(tmp_path, key, f"[{text}]" if "," in text else text)).endswith(f", or {one.word}")


@pytest.mark.parametrize(
    ("key", "names"), [("distil.kind", "off, hard, soft, cosub"), ("optim.no_decay", "code, paper, norms, off")]
)
def test_none_is_off_where_names_stand(key: str, names: str) -> None:
    assert error(key, f"--{key}=none") == f"command line: {key}=none: want one of {names}; nearest: off"


def test_zero_is_a_number_like_others_only_where_it_never_was_a_word() -> None:
    numbers = {key: old_numbers(one) for key, one in WITH_WORD.items() if one.within is not None and not has_words_inside(one)}
    assert {key for key, values in numbers.items() if len(values) == 1} == {"data.seed", "train.bce_threshold"}


@pytest.mark.parametrize("key", WITH_WORD)
def test_help_shows_the_word(key: str) -> None:
    command, *kind = command_of(key)
    text = " ".join(help_text(command, kind, everything=True).split())
    one = WITH_WORD[key]
    (row,) = re.findall(rf" --{re.escape(key)} .*?\[([^\]]*); default: ([^\]]*)\]", text)
    assert row[0].endswith(f", or {one.word}")
    assert (row[1] == one.word) is (one.default == one.unset)


def test_a_word_can_stand_beside_numbers(tmp_path: Path) -> None:
    assert read("bench.batch_sizes", "--bench.batch_sizes=1,auto") == (1, None)
    assert read("bench.batch_sizes", in_yaml(tmp_path, "bench.batch_sizes", "[1, auto]")) == (1, None)
    assert BenchConfig(batch_sizes=(1, "auto")).batch_sizes == (1, None)  # type: ignore[arg-type]
    assert in_words("bench.batch_sizes", (1, None)) == (1, "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DataConfig(num_workers=0), "data.num_workers=0: want >= 1, or auto"),
        (DataConfig(num_workers="off"), "data.num_workers='off': want an integer, or auto"),  # type: ignore[arg-type]
        (DataConfig(batch_size=None), "data.batch_size=None: want an integer"),  # type: ignore[arg-type]
        (AugmentConfig(cutmix=0.0), "augment.cutmix=0.0: want >= 0.01, or off"),
        (AugmentConfig(cutmix_minmax=(0.0, 0.0)), "augment.cutmix_minmax=(0.0, 0.0): want 0 <= low"),
        (AugmentConfig(auto_augment=None), "augment.auto_augment=None: want text, or off"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_loaders_made_in_python_refuse_the_same(options: DataConfig | AugmentConfig, message: str) -> None:
    data = options if isinstance(options, DataConfig) else DataConfig()
    augment = options if isinstance(options, AugmentConfig) else AugmentConfig()
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_loading(data, augment, rank=0, world_size=1)
    check_loading(DataConfig(num_workers=None), AugmentConfig(mixup=None, auto_augment=""), rank=0, world_size=1)


@pytest.mark.parametrize("key", WITH_WORD)
def test_what_older_versions_recorded_is_read_as_the_word(key: str) -> None:
    one = WITH_WORD[key]
    for number in old_numbers(one):
        assert value_now(key, number) == one.unset
        assert value_now(key, list(number) if isinstance(number, tuple) else float(number)) == one.unset
    for value in (one.default, one.unset):
        assert value_now(key, value) == value


def test_a_recorded_configuration_is_read_as_a_whole() -> None:
    now = RunConfig().as_dict()
    assert as_now(now) == now
    old = {"optim": {"no_decay": "none", "clip": 0.0, "lr": -1.0}, "distil": {"kind": "none"}, "gone": {"a": 0}, "out": ""}
    new = {"optim": {"no_decay": "off", "clip": None, "lr": -1.0}, "distil": {"kind": "off"}, "gone": {"a": 0}, "out": ""}
    assert as_now(old) == new
    assert as_now({"data": "nothing", "budget": {"hours": "x", "dollars": True}}) == {
        "data": "nothing", "budget": {"hours": "x", "dollars": True}
    }  # fmt: skip
    assert as_now(None) is None
