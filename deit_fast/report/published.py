"""Figures that others have published, from `published.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deit_fast.config import UserError

NUM_VAL_IMAGES = 50_000  # of ImageNet-1k, of which all published figures are


@dataclass(frozen=True)
class PublishedFigure:
    """One trained model of a publication. None: not published, or not on one machine."""

    name: str
    model: str  # timm's name
    top1: float
    source: str
    machine: str
    resolution: int | None = None
    epochs: int | None = None
    images_per_second: float | None = None  # of inference
    hours: float | None = None  # of training, on `machine`


def published_figures(names: Sequence[str]) -> list[PublishedFigure]:
    """The figures of the named publications, in their order. Raises UserError for a name of no publication."""
    found = []
    for name in names:
        whole = publication(name)
        for line in whole.get("figures", ()):
            fields = {key: value for key, value in line.items() if key not in ("minutes", "machine")}
            if "minutes" in line:
                fields["hours"] = line["minutes"] / 60
            on = [line.get("machine", whole["machine"])] if "hours" in fields else []
            on += [whole["throughput"]] if "images_per_second" in fields else []
            found.append(PublishedFigure(**fields, source=whole["source"], machine="; ".join(on)))
    return found


def publication(name: str) -> dict[str, Any]:
    """What published.yaml has of a publication. Raises UserError for a name of none."""
    if name not in _content():
        raise UserError(f"report.published={name}: want any of {', '.join(_content())}")
    found: dict[str, Any] = _content()[name]
    return found


def published_ablation(names: Sequence[str]) -> list[tuple[str, dict[str, Any], float]]:
    """Name, ingredients and top-1 at 224 of each row of the ablations of the named publications."""
    ablations = [(name, _content()[name]["ablation"]) for name in names if "ablation" in _content()[name]]
    return [
        (f"{name}: {row['name']}", ablation["default"] | row["changes"], row["top1"])
        for name, ablation in ablations
        for row in ablation["rows"]
    ]


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    return content
