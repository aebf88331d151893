"""The stages of schedule.stages: what may change from one to the next, how long each is, and its configuration."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from deit_fast.config.data import AugmentConfig
from deit_fast.config.run import RunConfig

STAGE_LENGTHS = ("epochs", "share")
_NEVER = ("device", "repeats", "mean", "std")  # of the views of an epoch's stream, and of evaluation
STAGE_OPTIONS = (
    "data.train",
    "data.resolution",
    *(f"augment.{own.name}" for own in dataclasses.fields(AugmentConfig) if own.name not in _NEVER),
)


def stage_ends(config: RunConfig) -> list[int]:
    """The number of epochs after which each stage ends.

    Stages take train.epochs in proportion to their `epochs`, or to `share` / resolution^2: then `share` is the part of the
    run's compute. An end is rounded to whole epochs, up from the half.
    """
    lengths = [_length(config, stage) for stage in config.schedule.stages]
    total = sum(lengths)
    return [int(config.train.epochs * done / total + 0.5) for done in itertools.accumulate(lengths)]


def _length(config: RunConfig, stage: dict[str, Any]) -> float:
    if "epochs" in stage:
        return float(stage["epochs"])
    return float(stage.get("share", 1.0)) / stage.get("data.resolution", config.data.resolution) ** 2


def config_of_stage(config: RunConfig, stage: dict[str, Any]) -> RunConfig:
    """The configuration with the options of a stage in their places."""
    return config.changed({key: value for key, value in stage.items() if key not in STAGE_LENGTHS})


def betons_of_stages(config: RunConfig) -> list[str]:
    """What names the betons of each stage of schedule.stages, as data.train does; empty without stages."""
    return [config_of_stage(config, stage).data.train for stage in config.schedule.stages]


def without_betons(stages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages without the names of their betons, of which the content counts: files may be moved."""
    return [{key: value for key, value in stage.items() if key != "data.train"} for stage in stages]
