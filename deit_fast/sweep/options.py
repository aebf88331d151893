"""Converts options by "section.name" to the configuration of a training run, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deit_fast.config import RunConfig
from deit_fast.option_values import HINTS, Given, typed
from deit_fast.record.log import as_json

_SECTIONS = ("data", "augment", "model", "distil", "optim", "schedule", "train", "run", "budget", "slurm")
_OF_EVAL = ("eval.flip", "eval.heads", "eval.fusion")

TRAINING = tuple(name for name in HINTS if name.partition(".")[0] in _SECTIONS or name in _OF_EVAL)  # what `train` takes


def config_of(given: Mapping[str, Given]) -> RunConfig:
    """The configuration with these options and all others at their defaults; ranges are not checked.

    Raises UserError for the first value of a wrong type, with where it came from."""
    return RunConfig().changed({key: typed(key, HINTS[key], value) for key, value in given.items()})


def value_of(config: RunConfig, key: str) -> Any:
    """The value of an option `section.name`."""
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def configuration(config: RunConfig) -> dict[str, Any]:
    """The options of a training run that differ from their defaults, as values for JSON."""
    defaults = RunConfig()
    values = {key: (value_of(config, key), value_of(defaults, key)) for key in TRAINING}
    return {key: as_json(value) for key, (value, default) in values.items() if value != default}
