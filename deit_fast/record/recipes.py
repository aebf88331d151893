"""Groups runs that differ in nothing but their seeds and tuned options: recipes, and the studies of each."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deit_fast.config import Decides, ReportConfig, RunConfig, UserError, in_words
from deit_fast.record.log import as_json
from deit_fast.record.runs import by_dotted_name

_BUDGET = ("budget.hours", "budget.dollars")
# what a budget decides, by the speed that a run happened to measure
FITTED = ("train.epochs", "schedule.warmup_epochs", "schedule.decay_epochs")
_LONGEST = 60  # characters of a name made of options
_SEED = re.compile(r"(^|,\s*)([a-z_]+\.)?[a-z_]*seed=[^,]*")


@dataclass(frozen=True)
class Recipe:
    """Runs that differ in nothing but seeds and tuned options.

    studies: the runs of each, as indices into the sequence that was grouped. A study has one run for each setting of the tuned
    options, all with the same seeds; a second run of the same setting and seeds begins another study.
    """

    name: str
    studies: tuple[tuple[int, ...], ...]

    @property
    def runs(self) -> tuple[int, ...]:
        """The indices of all its runs, in order."""
        return tuple(sorted(index for study in self.studies for index in study))


def recipe_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide on the weights or the time of a run, from its configuration by dotted name.

    Options that an older version did not have get their defaults.
    """
    has_budget = any(config.get(name) is not None for name in _BUDGET)
    wanted = {name: value for name, value in _defaults().items() if not (has_budget and name in FITTED)}
    options = {key: ".".join(key.split(".")[:2]) for key in config}  # an option that is a dictionary has several entries
    found = {key: config[key] for key, option in options.items() if option in wanted}
    lacking = wanted.keys() - set(options.values())
    found |= by_dotted_name({name: value for name, value in wanted.items() if name in lacking})
    return found | ({name: config.get(name) for name in (*_BUDGET, "budget.longer")} if has_budget else {})


@functools.cache
def _defaults() -> dict[str, Any]:
    """The options that decide on weights or time, and their defaults as JSON has them."""
    return {name: as_json(value) for name, value in RunConfig().options_that_decide(Decides.ALL).items()}


def recipes_of(
    options: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    seeds: Iterable[str] = ReportConfig().seeds,
    tuned: Iterable[str] = (),
) -> list[Recipe]:
    """The recipes of runs, by their first runs.

    options: of each run, as `recipe_options` gives them, and whatever else tells recipes apart. names: of the runs. seeds:
    options in which studies of a recipe differ; tuned: options in which runs of a study differ, whose fastest counts.
    """
    seeds, tuned = tuple(seeds), tuple(tuned)
    found: dict[str, tuple[dict[str, Any], dict[tuple[str, int], list[int]]]] = {}
    repeats: Counter[tuple[str, str, str]] = Counter()  # runs so far of one recipe, seeds and setting
    for index, own in enumerate(options):
        rest = {name: value for name, value in own.items() if not _is_of(name, (*seeds, *tuned))}
        key = repr(sorted(rest.items(), key=lambda item: item[0]))
        _, studies = found.setdefault(key, (rest, {}))
        seed, setting = repr(_setting(own, seeds)), repr(_setting(own, tuned))
        studies.setdefault((seed, repeats[key, seed, setting]), []).append(index)
        repeats[key, seed, setting] += 1
    of_recipes = [rest for rest, _ in found.values()]
    first = [names[min(min(study) for study in studies.values())] for _, studies in found.values()]
    grouped = zip(_names(of_recipes, first), found.values(), strict=True)
    return [Recipe(name, tuple(map(tuple, studies.values()))) for name, (_, studies) in grouped]


def check_options(names: Sequence[str], option: str) -> None:
    """Raises UserError if one of the names is not an option in which runs may differ. option: the one whose value they are."""
    for name in names:
        if name not in _defaults():
            raise UserError(f"{option}={name}: want options of training that decide on weights or time, as in optim.lr")


def _setting(own: Mapping[str, Any], tuned: Sequence[str]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in sorted(own.items()) if _is_of(name, tuned)]


def _is_of(name: str, options: Sequence[str]) -> bool:
    """Whether a name is that of one of the options, or of an entry of one that is a dictionary."""
    return any(name == option or name.startswith(f"{option}.") for option in options)


def _names(recipes: Sequence[Mapping[str, Any]], first: Sequence[str]) -> list[str]:
    """A name for each recipe: what a sweep calls it, or the options in which they differ, or the name of its first run if those
    are too many. first: the names of the first runs."""
    if len(recipes) == 1:
        return ["all runs"]
    given = [run.partition(",")[0] for run in first]  # where a sweep has recipes; seeds follow
    without_seeds = [_SEED.sub("", run) for run in first]
    if given == without_seeds != list(first) and len(set(given)) == len(given) and "=" not in "".join(given):
        return given
    every = dict.fromkeys(name for options in recipes for name in options)
    differing = [name for name in every if len({repr(options.get(name)) for options in recipes}) > 1]
    endings = [name.rpartition(".")[2] for name in differing]
    heads = [end if endings.count(end) == 1 else name for name, end in zip(differing, endings, strict=True)]
    made = [", ".join(_part(head, name, options) for head, name in zip(heads, differing, strict=True)) for options in recipes]
    ours = [
        name if len(name) <= _LONGEST else _SEED.sub("", run).strip(", ") or name for name, run in zip(made, first, strict=True)
    ]
    return [name if ours.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(ours, start=1)]


def _part(head: str, name: str, options: Mapping[str, Any]) -> str:
    value = in_words(name, options.get(name))
    text = "+".join(map(str, value)) if isinstance(value, list | tuple) else "–" if value is None else str(value)
    return text if name.endswith(".name") else f"{head}={text}"  # a name says itself what it names
