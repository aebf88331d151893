"""Reads the YAML file of a sweep: the options that all points share, and those that each point sets."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deit_fast.config import UserError
from deit_fast.options.files import bases, plain, read_file, read_nested
from deit_fast.options.values import COMMAND_LINE, HINTS, Given
from deit_fast.options.words import nearest, shown
from deit_fast.shipped import shipped
from deit_fast.sweep.draw import KINDS, draw_of
from deit_fast.sweep.options import TRAINING

MAX_POINTS = 10_000
_PARTS = ("base", "options", "recipes", "grid", "list", "random")
_OF_RANDOM = ("count", "seed", "options")
_OWN = ("run.dir", "train.resume")  # what a sweep sets itself
_VARIABLE = [name for name in TRAINING if name not in _OWN]
_SECTIONS = list(dict.fromkeys(name.partition(".")[0] for name in TRAINING))
_RECIPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,39}")  # its name; files of a sweep have a dot

Options = dict[str, Given]  # by "section.name"


@dataclass(frozen=True)
class Setting:
    """What a point sets: the options of its recipe ("": it has none), and its own."""

    recipe: str
    of_recipe: Options
    own: Options

    @property
    def options(self) -> Options:
        """All that it sets."""
        return self.of_recipe | self.own


@dataclass(frozen=True)
class SweepFile:
    """Content of a sweep's file; values are not yet converted to the types of their options."""

    path: Path
    shared: Options  # of its base, and on top its own `options`
    points: list[Setting]  # in the file's order: grid, list, random; of each, all recipes

    @property
    def varied(self) -> list[str]:
        """The options that some point sets, in the order of the configuration."""
        return [name for name in TRAINING if any(name in point.options for point in self.points)]


def read_sweep_file(path: Path) -> SweepFile:
    """Reads a sweep's file and its bases. Raises UserError for what is wrong in it, with its line."""
    root = read_nested(path, COMMAND_LINE)
    parts = _mapping(root, f"{root.origin}: want {', '.join(_PARTS[:-1])} or {_PARTS[-1]}")
    _check_names(parts, _PARTS, "part {} of a sweep")
    shared: Options = {}
    if "base" in parts:
        for base in bases(plain(parts["base"]).value, parts["base"].origin):
            shared |= read_file(shipped(base, path.parent), HINTS, parts["base"].origin)
    if "options" in parts:
        shared |= _options(parts["options"])
    points = _grid(parts["grid"]) if "grid" in parts else []
    if "list" in parts:
        points += [_options(entry) for entry in _items(parts["list"], "a list of points, each as {section.option: value}")]
    if "random" in parts:
        points += _random(parts["random"])
    recipes = _recipes(parts["recipes"]) if "recipes" in parts else {"": {}}
    if not points and "recipes" not in parts:
        raise UserError(f"{path}:1: no points: want recipes, grid, list or random, or several of them")
    if len(points) * len(recipes) > MAX_POINTS:
        raise UserError(f"{path}:1: {len(points) * len(recipes)} points: want at most {MAX_POINTS}")
    return SweepFile(path, shared, [Setting(name, recipes[name], own) for own in points or [{}] for name in recipes])


def _recipes(part: Given) -> dict[str, Options]:
    """The options of each recipe, by its name."""
    recipes = {}
    for name, value in _mapping(part, f"{part.origin}: want recipes, as in `plain: {{}}`").items():
        if not _RECIPE.fullmatch(str(name)):
            raise UserError(f"{value.origin}: recipe {shown(name)}: want a name of up to 40 letters, digits and _ + -")
        recipes[str(name)] = _options(value)
    return recipes


def _mapping(given: Given, problem: str) -> dict[str, Given]:
    if not isinstance(given.value, dict) or not given.value:
        raise UserError(problem)
    return given.value


def _check_names(entries: dict[str, Given], known: Sequence[str], what: str) -> None:
    for name, given in entries.items():
        if name not in known:
            raise UserError(f"{given.origin}: unknown {what.format(shown(name))}; {nearest(name, known)}")


def _items(given: Given, wanted: str) -> list[Given]:
    if not isinstance(given.value, list) or not given.value:
        raise UserError(f"{given.origin}: want {wanted}")
    return given.value


def _options(given: Given) -> Options:
    """Options as `section: {option: value}` or `section.option: value`."""
    if given.value in (None, {}):
        return {}
    options: Options = {}
    for name, value in _mapping(given, f"{given.origin}: want options, as in `section: {{option: value}}`").items():
        below = {name: value}
        if "." not in name:
            _check_names(below, _SECTIONS, "section {}")
            problem = f"{value.origin}: {name}: want options below it, as in `{name}: {{option: value}}`"
            below = {f"{name}.{option}": one for option, one in _mapping(value, problem).items()}
        for option, one in below.items():
            _check_option(option, one.origin)
            if option in options:
                raise UserError(f"{one.origin}: {option} stands twice: want it once")
            options[option] = plain(one)
    return options


def _check_option(name: str, origin: str) -> None:
    """Raises UserError for a name that is no option of a training run, or an option that the sweep sets itself."""
    if name in _OWN:
        raise UserError(f"{origin}: {name} is set by the sweep, for each point: leave it out")
    _check_names({name: Given(None, origin)}, _VARIABLE, "option {}")


def _axes(part: Given, what: str) -> dict[tuple[str, ...], Given]:
    """Axes of a grid or a sample, each the options that vary together (with + between), and the value of each."""
    axes: dict[tuple[str, ...], Given] = {}
    seen = set()
    for name, value in _mapping(part, f"{part.origin}: want {what}").items():
        axis = tuple(name.split("+"))
        for option in axis:
            _check_option(option, value.origin)
            if option in seen:
                raise UserError(f"{value.origin}: {option} stands in two axes, or twice in one: want it once")
            seen.add(option)
        axes[axis] = value
    return axes


def _settings(axis: tuple[str, ...], value: Given) -> Options:
    """The options that a value of an axis sets; for several options it is a list with a value for each."""
    if len(axis) == 1:
        return {axis[0]: plain(value)}
    if not isinstance(value.value, list) or len(value.value) != len(axis):
        got = f"{'+'.join(axis)}={shown(plain(value).value)}"
        raise UserError(f"{value.origin}: {got}: want a list of {len(axis)} values, one for each of the options")
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


def _merged(settings: Iterable[Options]) -> Options:
    return {name: value for one in settings for name, value in one.items()}


def _random(part: Given) -> list[Options]:
    """A random sample: point i is a function of (seed, i) and the axes, so a larger count adds points and changes none.

    Raises UserError if the axes seem to have fewer different points.
    """
    entries = _mapping(part, f"{part.origin}: want {', '.join(_OF_RANDOM[:-1])} and {_OF_RANDOM[-1]}")
    _check_names(entries, _OF_RANDOM, "{} of random")
    count = _integer(entries.get("count"), part, "random: count", 1, MAX_POINTS)
    seed = _integer(entries.get("seed", Given(0, part.origin)), part, "random: seed", 0, 2**63 - 1)
    if "options" not in entries:
        wanted = "want what is drawn, as in `optim.lr: {uniform: [1e-4, 1e-3]}`"
        raise UserError(f"{part.origin}: random has no options: {wanted}")
    axes = _axes(entries["options"], f"options that are drawn, each by one of {', '.join(KINDS)}")
    draws = {axis: draw_of("+".join(axis), given) for axis, given in axes.items()}
    points: dict[str, Options] = {}
    for index in range(count):
        for trial in range(100):
            settings = _merged(_settings(axis, draw(f"{seed}/{index}/{trial}")) for axis, draw in draws.items())
            content = repr([given.value for given in settings.values()])
            if content not in points:
                break
        else:
            raise UserError(f"{part.origin}: random: hardly more than {len(points)} different points: want a smaller count")
        points[content] = settings
    return list(points.values())


def _integer(given: Given | None, part: Given, name: str, low: int, high: int) -> int:
    value = None if given is None else given.value
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        got = "" if given is None else f"={shown(value)}"
        raise UserError(f"{(given or part).origin}: {name}{got}: want an integer from {low} to {high}")
    return value
