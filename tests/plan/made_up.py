"""Made-up measurements of the parts of a run."""

from __future__ import annotations

from deit_fast.plan.probe import Measured, Probes, Steps


def always(seconds: float) -> Measured:
    return Measured((seconds, seconds))


def probes(wait: float = 0.0, compute: float = 1.0, loader: float = 0.2) -> Probes:
    """Of steps at 32 pixels."""
    return Probes(
        steps={32: Steps(5.0, always(wait), always(compute))},
        first_batch=2.0, epoch_start=always(0.5), loader=always(loader), model=always(compute), evaluation=always(8.0),
        compile_evaluation=3.0, checkpoint=always(0.25), write=1.0,
    )  # fmt: skip
