"""Curves that others have published: top-1 by epoch, from `published.yaml`, or from logs of DeiT's code and of timm."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deit_fast.config import UserError
from deit_fast.report.published import publication

_TOP1 = ("test_acc1", "eval_top1")  # as DeiT's log.txt and timm's summary.csv call it
_COMMON = ("log", "summary")  # names of files that say nothing


@dataclass(frozen=True)
class PublishedCurve:
    """A curve of another code. epochs: done at each point; top1: in percent."""

    name: str
    source: str
    epochs: tuple[int, ...]
    top1: tuple[float, ...]


def published_curves(names: Sequence[str]) -> list[PublishedCurve]:
    """The curves of the named publications, in their order. Raises UserError for a name of no publication."""
    curves = []
    for name in names:
        for line in publication(name).get("curves", ()):
            points = sorted(line["top1"].items())  # by epoch, from 0
            epochs, top1 = tuple(epoch + 1 for epoch, _ in points), tuple(float(value) for _, value in points)
            curves.append(PublishedCurve(line["name"], line["source"], epochs, top1))
    return curves


def read_curve(path: Path) -> PublishedCurve:
    """The curve in DeiT's log.txt, one JSON object a line, or in timm's summary.csv.

    DeiT's has `epoch`, from 0, and `test_acc1`; timm's `epoch`, from 0, and `eval_top1`, which is that of the EMA where it has
    one. If an epoch stands there twice, after a resume, the last line counts. Raises UserError for a file that is neither.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        raise UserError(f"report.curves={path}: cannot be read ({reason}); want DeiT's log.txt or timm's summary.csv") from None
    rows = _json_lines(text) if text.lstrip().startswith("{") else list(csv.DictReader(io.StringIO(text)))
    points: dict[int, float] = {}
    for row in rows:
        epoch, top1 = (
            _number(row.get("epoch")),
            next((value for name in _TOP1 if (value := _number(row.get(name))) is not None), None),
        )
        if epoch is not None and top1 is not None:
            points[round(epoch) + 1] = top1
    if not points:
        wanted = "want lines with epoch and test_acc1, as DeiT's log.txt has, or epoch and eval_top1, as timm's summary.csv"
        raise UserError(f"report.curves={path}: holds no curve; {wanted}")
    epochs = sorted(points)
    name = path.absolute().parent.name if path.stem in _COMMON else path.stem
    return PublishedCurve(name, str(path), tuple(epochs), tuple(points[epoch] for epoch in epochs))


def _json_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects of lines; a line that was cut is left out."""
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
