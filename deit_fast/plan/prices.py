"""Reads a YAML file of machines and their prices per hour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from deit_fast.config import UserError
from deit_fast.shipped import shipped

_KINDS = ("on_demand", "spot")


@dataclass(frozen=True)
class Price:
    """Dollars per hour of one machine. gpus: number of its GPUs; 0: unknown, one machine is enough for the run."""

    name: str
    dollars_per_hour: float
    gpus: int = 0


def read_prices(file: str, dollars_per_hour: float | None) -> list[Price]:
    """The prices of a file, `machine: {on_demand: 2.16, spot: 0.9, gpus: 8}` each, after run.dollars_per_hour if that is known.

    Raises UserError, in one line with the machine, for a file that cannot be read, a price that is missing or not a positive
    number, and for what is unknown."""
    prices = [Price("run.dollars_per_hour", dollars_per_hour)] if dollars_per_hour else []
    if not file:
        return prices
    try:
        content = yaml.safe_load(shipped(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"plan.prices={file}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"plan.prices={file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"plan.prices={file}: want `machine: {{on_demand: DOLLARS, spot: DOLLARS, gpus: NUMBER}}` for each machine"
        )
    for machine, fields in content.items():
        prices += _prices_of(f"plan.prices={file}: {machine}", str(machine), fields)
    return prices


def _prices_of(where: str, machine: str, fields: Any) -> list[Price]:
    fields = fields if isinstance(fields, dict) else {}
    for name, value in fields.items():
        if name not in (*_KINDS, "gpus"):
            raise UserError(f"{where}: {name} is unknown; want on_demand, spot and gpus")
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if name == "gpus" and not (is_number and isinstance(value, int) and value >= 0):
            raise UserError(f"{where}: gpus={value}: want a number of GPUs")
        if name in _KINDS and not (is_number and value > 0):
            raise UserError(f"{where}: {name}={value}: want dollars an hour, above 0")
    kinds = [kind for kind in _KINDS if kind in fields]
    if not kinds:
        raise UserError(f"{where}: has no price; want on_demand or spot, in dollars an hour")
    return [Price(f"{machine}, {kind.replace('_', ' ')}", float(fields[kind]), fields.get("gpus", 0)) for kind in kinds]
