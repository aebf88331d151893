"""Reads the YAML file of a sweep: the options that all points share, and those that each point sets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_fast.config import UserError
from deit_fast.option_values import COMMAND_LINE, Given, bases, nearest, plain, read_file, read_nested, shown
from deit_fast.sweep.draw import KINDS, Draw, draw_of
from deit_fast.sweep.options import ALL, TRAINING

MAX_POINTS = 10_000
_PARTS = ("base", "options", "grid", "list", "random")
_OWN = ("run.dir", "train.resume")  # what a sweep sets itself

Options = dict[str, Given]  # by "section.name"


@dataclass(frozen=True)
class SweepFile:
    """Content of a sweep's file; values are not yet converted to the types of their options."""

    path: Path
    shared: Options  # of its base, and on top its own `options`
    points: list[Options]  # what each point sets, in the file's order: grid, list, random

    @property
    def varied(self) -> list[str]:
        """The options that some point sets, in the order of the configuration."""
        return [name for name in TRAINING if any(name in point for point in self.points)]


def read_sweep_file(path: Path) -> SweepFile:
    """Reads a sweep's file and its bases. Raises UserError for what is wrong in it, with its line."""
    root = read_nested(path, COMMAND_LINE)
    parts = _mapping(root, f"{root.origin}: want {', '.join(_PARTS[:-1])} or {_PARTS[-1]}")
    for name, part in parts.items():
        if name not in _PARTS:
            raise UserError(f"{part.origin}: unknown part {shown(name)} of a sweep; {nearest(name, _PARTS)}")
    shared: Options = {}
    if "base" in parts:
        for base in bases(plain(parts["base"]).value, parts["base"].origin):
            shared |= read_file(path.parent / base, ALL, parts["base"].origin)
    if "options" in parts:
        shared |= _options(parts["options"])
    points: list[Options] = []
    if "grid" in parts:
        points += _grid(parts["grid"])
    if "list" in parts:
        points += [_options(entry) for entry in _items(parts["list"], "a list of points, each as {section.option: value}")]
    if "random" in parts:
        points += _random(parts["random"])
    if not points:
        raise UserError(f"{path}:1: no points: want grid, list or random, or several of them")
    if len(points) > MAX_POINTS:
        raise UserError(f"{path}:1: {len(points)} points: want at most {MAX_POINTS}")
    return SweepFile(path, shared, points)


def _mapping(given: Given, problem: str) -> dict[str, Given]:
    if not isinstance(given.value, dict) or not given.value:
        raise UserError(problem)
    return given.value


def _items(given: Given, wanted: str) -> list[Given]:
    if not isinstance(given.value, list) or not given.value:
        raise UserError(f"{given.origin}: want {wanted}")
    return given.value


def _options(given: Given) -> Options:
    """Options as `section: {option: value}` or `section.option: value`."""
    if given.value in (None, {}):
        return {}
    entries = _mapping(given, f"{given.origin}: want options, as in `section: {{option: value}}`")
    sections = {name.partition(".")[0]: None for name in TRAINING}
    options: Options = {}
    for name, value in entries.items():
        if "." in name:
            _add(options, name, value)
            continue
        if name not in sections:
            raise UserError(f"{value.origin}: unknown section {shown(name)}; {nearest(name, sections)}")
        problem = f"{value.origin}: {name}: want options below it, as in `{name}: {{option: value}}`"
        for option, below in _mapping(value, problem).items():
            _add(options, f"{name}.{option}", below)
    return options


def _add(options: Options, name: str, value: Given) -> None:
    check_name(name, value.origin)
    if name in options:
        raise UserError(f"{value.origin}: {name} stands twice: want it once")
    options[name] = plain(value)


def check_name(name: str, origin: str) -> None:
    """Raises UserError for a name that is no option of a training run, or an option that the sweep sets itself."""
    known = [option for option in TRAINING if option not in _OWN]
    if name in _OWN:
        raise UserError(f"{origin}: {name} is set by the sweep, for each point: leave it out")
    if name not in known:
        raise UserError(f"{origin}: unknown option {shown(name)}; {nearest(name, known)}")


def _axis(name: str, origin: str) -> tuple[str, ...]:
    """The options of an axis: one, or several that vary together, with + between."""
    options = tuple(name.split("+"))
    for option in options:
        check_name(option, origin)
    if len(set(options)) < len(options):
        raise UserError(f"{origin}: {name}: an option stands twice: want it once")
    return options


def _axes(part: Given, what: str) -> dict[tuple[str, ...], Given]:
    """Axes of a grid or a sample, and the value of each."""
    axes: dict[tuple[str, ...], Given] = {}
    for name, value in _mapping(part, f"{part.origin}: want {what}").items():
        axis = _axis(name, value.origin)
        for option in axis:
            if any(option in other for other in axes):
                raise UserError(f"{value.origin}: {option} stands in two axes: want it in one")
        axes[axis] = value
    return axes


def _settings(axis: tuple[str, ...], value: Given) -> Options:
    """The options that a value of an axis sets; for several options it is a list with a value for each."""
    if len(axis) == 1:
        return {axis[0]: plain(value)}
    if not isinstance(value.value, list) or len(value.value) != len(axis):
        got = shown(plain(value).value)
        raise UserError(
            f"{value.origin}: {'+'.join(axis)}={got}: want a list of {len(axis)} values, one for each of the options"
        )
    return {option: plain(item) for option, item in zip(axis, value.value, strict=True)}


def _grid(part: Given) -> list[Options]:
    """The product of all axes, the last one varying fastest."""
    axes = []
    for axis, given in _axes(part, "a list of values for each option, as in `data.resolution: [192, 224]`").items():
        values = _items(given, f"a list of values of {'+'.join(axis)}")
        axes.append([_settings(axis, value) for value in values])
    num_points = math.prod(map(len, axes))
    if num_points > MAX_POINTS:
        raise UserError(f"{part.origin}: grid of {num_points} points: want at most {MAX_POINTS}")
    return [_merged(settings) for settings in itertools.product(*axes)]


def _merged(settings: tuple[Options, ...]) -> Options:
    return {name: value for one in settings for name, value in one.items()}


def _random(part: Given) -> list[Options]:
    """A random sample: point i is a function of (seed, i) and the axes, so a larger count adds points and changes none."""
    entries = _mapping(part, f"{part.origin}: want count, seed and options")
    for name, value in entries.items():
        if name not in ("count", "seed", "options"):
            raise UserError(f"{value.origin}: unknown {shown(name)} of random; {nearest(name, ('count', 'seed', 'options'))}")
    count = _integer(entries.get("count"), part, "random: count", 1, MAX_POINTS)
    seed = _integer(entries.get("seed", Given(0, part.origin)), part, "random: seed", 0, 2**63 - 1)
    if "options" not in entries:
        raise UserError(
            f"{part.origin}: random has no options: want what is drawn, as in `optim.lr: {{uniform: [1e-4, 1e-3]}}`"
        )
    axes = _axes(entries["options"], f"options that are drawn, each by one of {', '.join(KINDS)}")
    draws = {axis: draw_of("+".join(axis), given) for axis, given in axes.items()}
    return list(itertools.islice(_sample(draws, seed, part), count))


def _sample(draws: dict[tuple[str, ...], Draw], seed: int, part: Given) -> Iterator[Options]:
    """An endless stream of distinct points. Raises UserError if the axes seem to have no more of them."""
    seen: list[dict[str, Any]] = []
    index = 0
    while True:
        for trial in range(100):
            settings = _merged(tuple(_settings(axis, draw.at(f"{seed}/{index}/{trial}")) for axis, draw in draws.items()))
            values = {name: given.value for name, given in settings.items()}
            if values not in seen:
                break
        else:
            raise UserError(f"{part.origin}: random: hardly more than {len(seen)} different points: want a smaller count")
        seen.append(values)
        index += 1
        yield settings


def _integer(given: Given | None, part: Given, name: str, low: int, high: int) -> int:
    value = None if given is None else given.value
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        got = "" if given is None else f"={shown(value)}"
        raise UserError(f"{(given or part).origin}: {name}{got}: want an integer from {low} to {high}")
    return value
