"""Other ways to compute the same training step, to be measured beside the configuration's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from deit_fast.config import RunConfig, declared

OPTIONS = ("attention", "patch_embed")  # of train; bench.choices has some of them


def other_choices(config: RunConfig, options: Iterable[str]) -> dict[str, RunConfig]:
    """The configuration with each other value of options of train, as "option=value"; without their `auto`."""
    return {
        f"{option}={value}": config.changed({f"train.{option}": value})
        for option in options
        for value in get_args(declared()[f"train.{option}"].kind)
        if value not in ("auto", getattr(config.train, option))
    }
