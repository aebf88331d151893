"""Any valid values of a section, written as words of the command line or as YAML, are read back as they were."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deit_fast.cli import parse
from deit_fast.config import (
    BenchConfig,
    DataConfig,
    Pair,
    RunConfig,
    TrainConfig,
    Triple,
    UserError,
    check_option,
    in_words,
    set_kind,
)
from tests.commands.every import every_command
from tests.scale import scaled

SECTIONS: dict[str, Any] = {n: kind for n, kind in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(kind)}
COMMANDS_AND_KINDS = every_command()


def option_values(section: str, name: str, hint: Any) -> st.SearchStrategy[Any]:
    """Valid values of an option, of all those that its type and range allow."""
    text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
    numbers = st.one_of(st.floats(0, 1), st.floats(allow_nan=False, allow_infinity=False))
    strategies: dict[Any, st.SearchStrategy[Any]] = {
        str: text, bool: st.booleans(), int: st.one_of(st.integers(1, 100), st.integers()), float: numbers,
        Pair: st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: tuple(sorted(pair))),
        Triple: st.tuples(numbers, numbers, numbers).map(lambda triple: tuple(abs(x) for x in triple)),
        tuple[int | None, ...]: st.lists(st.none() | st.integers(1, 10**6), min_size=1).map(tuple),
        tuple[str, ...]: st.lists(text.filter(lambda word: word and "," not in word)).map(tuple),
        dict[str, Any]: st.dictionaries(
            st.from_regex(r"[a-z_]\w{0,8}", fullmatch=True).filter(str.isascii),
            st.one_of(st.integers(), st.floats(-1e9, 1e9), st.booleans(), st.sampled_from(["a b", "1e-3", "off"])),
        ),
        tuple[dict[str, Any], ...]: st.lists(
            st.fixed_dictionaries({}, optional={
                "share": st.floats(1e-3, 1e3), "data.resolution": st.integers(1, 4096), "augment.erase": st.floats(0, 1),
                "augment.mixup": st.none() | st.floats(0.01, 1), "augment.auto_augment": st.sampled_from(["", "3a"]),
                "augment.crop_scale": st.just((0.1, 1.0)),
            })
        ).map(tuple),
    }  # fmt: skip
    kind = set_kind(hint)
    strategy = st.sampled_from(get_args(kind)) if get_origin(kind) is Literal else strategies[kind]
    strategy = strategy.filter(lambda value: is_valid(f"{section}.{name}", value))
    return strategy if kind is hint else st.none() | strategy


def is_valid(key: str, value: Any) -> bool:
    try:
        check_option(key, value)
    except UserError:
        return False
    return True


def sections() -> st.SearchStrategy[tuple[str, Any]]:
    return st.one_of(
        *(
            st.builds(kind, **{n: option_values(name, n, hint) for n, hint in get_type_hints(kind).items()}).map(
                lambda section, name=name: (name, section)  # type: ignore[misc]
            )
            for name, kind in SECTIONS.items()
        )
    )


def as_words(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, tuple):
        return ",".join(map(as_words, value))
    if isinstance(value, dict):
        return ",".join(f"{key}={json.dumps(item)}" for key, item in value.items())
    return str(value)


class Quoting(yaml.SafeDumper):
    """Quotes all text: safe_dump alone writes the text 1e-3 bare, which is a number here."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
Quoting.add_representer(tuple, lambda dumper, items: dumper.represent_list(items))


@settings(max_examples=scaled(150, 20))
@given(sections())
@example(("train", TrainConfig(amp="off", compile="off", channels_last=False)))
@example(("data", DataConfig(train="1e-3", val="off")))
@example(("bench", BenchConfig(kind="eval", models=("resnet18", "resnet50"))))
@example(("bench", BenchConfig(kind="loader", threads=1)))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, named: tuple[str, Any]) -> None:
    name, section = named
    takers = (one for one, taken in COMMANDS_AND_KINDS.items() if name in taken.takes)
    words = f"bench {section.kind}" if name == "bench" else next(takers)
    command, taken = words.split()[0], COMMANDS_AND_KINDS[words]
    keys = {own.name: f"{name}.{own.name}" for own in dataclasses.fields(section)}
    values = {own: getattr(section, own) for own, key in keys.items() if taken.has(key) or key == "bench.kind"}
    wanted = dataclasses.replace(RunConfig(), **{name: type(section)(**values)})
    options = {own: in_words(keys[own], item) for own, item in values.items()}
    if options.get("stages", "off") != "off":
        options["stages"] = [{key: in_words(key, item) for key, item in stage.items()} for stage in options["stages"]]
    assert parse(command, [f"--{name}.{key}={as_words(item)}" for key, item in options.items()]) == wanted
    file = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    file.write_text(yaml.dump({name: options}, Dumper=Quoting, allow_unicode=True), encoding="utf-8")
    assert parse(command, ["--config-file", str(file)]) == wanted
