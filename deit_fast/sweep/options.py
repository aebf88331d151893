"""The options of a training run, by "section.name", and their values in a configuration."""

from __future__ import annotations

from typing import Any

from deit_fast.config import RunConfig, in_words
from deit_fast.options.values import HINTS
from deit_fast.record.log import as_json

_SECTIONS = ("data", "augment", "model", "distil", "optim", "schedule", "train", "run", "budget", "slurm")
_OF_EVAL = ("eval.flip", "eval.heads", "eval.fusion")

TRAINING = tuple(name for name in HINTS if name.partition(".")[0] in _SECTIONS or name in _OF_EVAL)  # what `train` takes


def value_of(config: RunConfig, key: str) -> Any:
    """The value of an option `section.name`, or the word that leaves it unset."""
    section, name = key.split(".")
    return in_words(key, getattr(getattr(config, section), name))


def configuration(config: RunConfig) -> dict[str, Any]:
    """The options of a training run that differ from their defaults, as values for JSON."""
    defaults = RunConfig()
    values = {key: (value_of(config, key), value_of(defaults, key)) for key in TRAINING}
    return {key: as_json(value) for key, (value, default) in values.items() if value != default}
