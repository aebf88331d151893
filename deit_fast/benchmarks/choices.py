"""Other ways to compute the same training step, to be measured beside the configuration's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from deit_fast.config import RunConfig, declared

OPTIONS = {  # name in bench.choices: the option
    "attention": "train.attention",
    "patch_embed": "train.patch_embed",
    "drop_path_kind": "model.drop_path_kind",
}


def other_choices(config: RunConfig, options: Iterable[str]) -> dict[str, RunConfig]:
    """The configuration with each other value of options, as "option=value"; without their `auto`."""
    paths = {option: OPTIONS[option] for option in options}
    others = {
        f"{option}={value}": config.changed({path: value})
        for option, path in paths.items()
        for value in get_args(declared()[path].kind)
        if value != "auto"
    }
    return {name: other for name, other in others.items() if other != config}
