"""Joins betons into one: `deit-fast merge`."""

from __future__ import annotations

from typing import Any

from deit_fast.config import MergeConfig, check_sections
from deit_fast.data.convert.output import output_path
from deit_fast.data.regroup.choice import all_samples
from deit_fast.data.regroup.joined import open_joined
from deit_fast.data.regroup.new_beton import write_chosen


def merge_betons(config: MergeConfig) -> dict[str, Any]:
    """Writes the beton of all samples of the betons, one beton after the other, and gives its manifest."""
    check_sections(merge=config)
    out = output_path("merge.out", config.out)
    joined = open_joined("merge.betons", config.betons)
    return write_chosen(joined, all_samples(joined), out, "merge", {})
