"""Describes an exported model beside its weights: architecture, classes and preprocessing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deit_fast.config import UserError
from deit_fast.train.trained import View

_FORMAT = 1


@dataclass(frozen=True)
class Card:
    """Facts about a model with one output, the logits of images (B, 3, resolution, resolution) float32 that `view` describes.

    architecture, options, blurpool: of `ModelConfig`. classes: names in the order of the logits, None if unknown. heads,
    fusion: how the logits of a distilled model's two heads become one (`EvalConfig`). weights: model or ema. epoch: from 0,
    None if unknown.
    """

    architecture: str
    options: dict[str, Any]
    blurpool: bool
    num_classes: int
    classes: list[str] | None
    view: View
    heads: Literal["both", "class", "distillation"]
    fusion: Literal["code", "paper"]
    weights: str
    epoch: int | None

    def as_metadata(self) -> dict[str, str]:
        """The facts as texts by name: the number of the format, and all others, those of the view among them, as JSON."""
        facts = dataclasses.asdict(self)
        facts |= facts.pop("view")
        return {"deit_fast": str(_FORMAT), **{name: json.dumps(value, ensure_ascii=False) for name, value in facts.items()}}


def card_of(metadata: Mapping[str, str] | None, path: object) -> Card:
    """The card that a file's metadata hold. Raises UserError if there is none, or one of another format."""
    format_number = (metadata or {}).get("deit_fast")
    if metadata is None or format_number != str(_FORMAT):
        problem = "was not written by `deit-fast export`" if format_number is None else f"is of format {format_number}"
        raise UserError(f"model {path}: {problem}; want a file of format {_FORMAT}, written by this version")
    try:
        facts = {own.name: json.loads(metadata[own.name]) for own in dataclasses.fields(Card) if own.name != "view"}
        view = {own.name: json.loads(metadata[own.name]) for own in dataclasses.fields(View)}
    except (KeyError, ValueError) as error:
        raise UserError(f"model {path}: its metadata are damaged ({error}); want it exported again") from None
    sides, mean, std = (view["resolution"], view["crop_ratio"]), tuple(view["mean"]), tuple(view["std"])
    return Card(**facts, view=View(*sides, view["interpolation"], mean, std))
