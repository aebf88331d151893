"""Makes policies of a single operation, and describes the steps of views in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deit_fast.kernels import policy as drawing
from deit_fast.kernels.operation_table import CODES, IN_POLICIES, NOTHING, OPERATIONS
from deit_fast.kernels.policy import Policy

_NAMES = {found: name for name, found in IN_POLICIES.items()}


@dataclass(frozen=True)
class Drawn:
    """An operation as a policy draws it: its name in policies, its code and level function, and its largest magnitude."""

    name: str
    code: int
    function: int
    magnitude: float

    @property
    def argument(self) -> str:
        """Meaning of its argument, empty where it has none."""
        return OPERATIONS[self.code - 1].argument


def operations_of(policy: Policy) -> list[Drawn]:
    """The operations that a policy draws, each once, in the order of its table."""
    found: dict[tuple[int, int], float] = {}
    for code, function, _, magnitude, _ in policy.table.tolist():
        key = int(code), int(function)
        found[key] = max(found.get(key, 0.0), min(magnitude, policy.max_magnitude))
    return [Drawn(_NAMES[key], *key, magnitude) for key, magnitude in found.items()]


def single_operation(policy: Policy, operation: Drawn, magnitude: float) -> Policy:
    """A policy that applies one operation to each view, at this magnitude."""
    table = np.array([[operation.code, operation.function, 1.0, magnitude, 1.0]])
    most = max(policy.max_magnitude, magnitude)
    return Policy(table, 1, 1, True, 0.0, most, 0.0, 1, policy.interpolation)  # one group of one, not at random, no jitter


def steps_of(policy: Policy, seed: int, ids: NDArray[np.uint64], resolution: int) -> list[list[tuple[str, float]]]:
    """The steps of each view that do something: names of operations and their arguments."""
    codes = np.empty((len(ids), policy.num_steps), np.int32)
    arguments = np.empty((len(ids), policy.num_steps), np.float64)
    drawing.draw_steps(np.uint64(seed), ids, policy, resolution, resolution, codes, arguments)
    pairs = (zip(*row, strict=True) for row in zip(codes.tolist(), arguments.tolist(), strict=True))
    return [[(OPERATIONS[code - 1].name, argument) for code, argument in row if code != NOTHING] for row in pairs]


def in_words(step: tuple[str, float]) -> str:
    """A step, such as `rotate -12.5`, or `invert`."""
    name, argument = step
    has_argument = OPERATIONS[CODES[name] - 1].argument
    return f"{name.replace('_', ' ')} {argument:.3g}" if has_argument else name.replace("_", " ")
