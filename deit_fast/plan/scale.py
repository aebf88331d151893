"""Predicts from measurements on one rank what several ranks on one node would take.

The model: each rank has a batch of its own, so that an epoch has as many fewer steps. Gradients are summed in a ring: 2 (n - 1)
/ n times their bytes over each link, beside the backward pass, which is two thirds of a step; the rest is waited for. The ranks
share the cores: a loader that then has fewer threads is slower in proportion. Evaluation is shared out; starting, compiling
and checkpoints take what they took.
"""

from __future__ import annotations

import dataclasses

from deit_fast.config import RunConfig
from deit_fast.cores import num_cores
from deit_fast.plan.probe import Measured, Probes, Steps

BUS_BYTES_PER_SECOND = 200e9  # between GPUs of one node over NVLink: assumed, not measured; over PCIe it is much less
BACKWARD_SHARE = 2 / 3


def scaled(config: RunConfig, probes: Probes, gpus: int, num_threads: int, gradient_bytes: int) -> Probes:
    """What would be measured on each of so many ranks. num_threads: of the measured loader."""
    sent = 2 * (gpus - 1) / gpus * gradient_bytes * (0.5 if config.train.gradient_compression == "bf16" else 1.0)
    exchange = sent / BUS_BYTES_PER_SECOND
    slower = num_threads / min(num_threads, max(1, num_cores() // gpus))
    largest = max(probes.steps)

    def of_many(side: int, measured: Steps) -> Steps:
        compute = _plus(measured.compute, max(0.0, exchange - BACKWARD_SHARE * measured.compute.mean))
        loader = probes.loader.mean * slower * side**2 / largest**2
        wait = max(measured.wait.mean * slower, loader - compute.mean)
        return dataclasses.replace(measured, compute=compute, wait=_plus(measured.wait, wait - measured.wait.mean))

    steps, tail = ({side: of_many(side, one) for side, one in of.items()} for of in (probes.steps, probes.tail))
    evaluation = Measured(tuple(value / gpus for value in probes.evaluation.values))
    return dataclasses.replace(probes, steps=steps, tail=tail, evaluation=evaluation)


def _plus(measured: Measured, seconds: float) -> Measured:
    return Measured(tuple(value + seconds for value in measured.values))
