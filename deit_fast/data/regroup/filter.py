"""Keeps or drops the images of betons that meet conditions: `deit-fast filter`."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import FilterConfig, UserError, check_sections
from deit_fast.data.convert.output import output_path
from deit_fast.data.format.beton import JPEG_MODE, RAW_MODE
from deit_fast.data.regroup.choice import these_samples
from deit_fast.data.regroup.joined import Joined, open_joined
from deit_fast.data.regroup.names import names_of
from deit_fast.data.regroup.new_beton import write_chosen

_MODES = {"jpeg": JPEG_MODE, "raw": RAW_MODE}
_ODD = ("converted", "repaired")


def filter_betons(config: FilterConfig) -> dict[str, Any]:
    """Writes the beton of the images that meet all conditions, or of all others; gives its manifest."""
    check_sections(filter=config)
    out = output_path("filter.out", config.out)
    for what in config.odd:
        if what not in _ODD:
            raise UserError(f"filter.odd={','.join(config.odd)}: {what!r}: want {' or '.join(_ODD)}, or both")
    joined = open_joined("filter.betons", config.betons)
    conditions = _conditions(joined, config)
    if not conditions:
        raise UserError("filter: no condition is set: want filter.names, filter.odd, filter.kind or a limit of width or height")
    meets = np.logical_and.reduce(conditions)
    choice = these_samples(joined, meets if config.action == "keep" else ~meets)
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in ("betons", "out")}
    made = {"settings": settings | {name: list(settings[name]) for name in ("names", "odd")}}
    return write_chosen(joined, choice, out, "filter", made)


def _conditions(joined: Joined, config: FilterConfig) -> list[NDArray[np.bool_]]:
    """For each condition that is set, which samples (num_samples,) meet it."""
    found: list[NDArray[np.bool_]] = []
    if config.names:
        names = names_of(joined, config.source, "filter.names")
        found.append(np.array([any(fnmatchcase(name, pattern) for pattern in config.names) for name in names]))
    if config.odd:
        found.append(_is_odd(joined, config))
    if config.kind != "all":
        found.append(joined.modes == _MODES[config.kind])
    for sides, least, most in (
        (joined.widths, config.min_width, config.max_width),
        (joined.heights, config.min_height, config.max_height),
    ):
        found += [] if least is None else [sides >= least]
        found += [] if most is None else [sides <= most]
    return found


def _is_odd(joined: Joined, config: FilterConfig) -> NDArray[np.bool_]:
    """Which samples have a line in their manifest that says one of config.odd."""
    is_odd = np.zeros(joined.num_samples, bool)
    for beton, manifest, start in zip(joined.betons, joined.manifests, joined.starts[:-1], strict=True):
        if manifest is None or "odd" not in manifest:
            raise UserError(
                f"filter.odd: {beton.path} has no manifest that names odd images; want one made by `deit-fast write`"
            )
        for line in manifest["odd"]:
            if line["what"] in config.odd and line["sample"] is not None:
                is_odd[start + line["sample"]] = True
    return is_odd
