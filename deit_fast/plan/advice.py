"""Says what limits a measured run and what would speed it up, the most effective first."""

from __future__ import annotations

from typing import Any

import torch

from deit_fast.config import RunConfig
from deit_fast.cores import num_cores
from deit_fast.plan.prediction import Prediction
from deit_fast.plan.probe import Probes
from deit_fast.plan.run_counts import RunCounts

_NAMES = {
    "setup": "starting", "compile": "compiling and the first batch", "data_wait": "the data path", "compute": "the model",
    "evaluation": "evaluation", "checkpoint": "checkpoints", "other": "the rest",
}  # fmt: skip
_WORTH_IT = 0.02  # of the run; less is not said
_LEAST_SECONDS = 1.0  # what saves less is not named
_COMPILED = 0.7  # of an uncompiled step on a GPU: a guess, not measured


def advice(config: RunConfig, counts: RunCounts, probes: Probes, prediction: Prediction, num_threads: int) -> dict[str, Any]:
    """`limits`: what takes most of the run. `steps`: what would help, each with the most seconds that it can save.

    The data path limits a step if it alone takes longer for a batch than the model alone, whatever the clock says: on a CPU the
    two slow each other down.
    """
    seconds = dict(prediction.seconds)
    steps = next(iter(probes.steps.values()))
    training = seconds["compute"] + seconds["data_wait"]
    lost = max(seconds["data_wait"], training * (1 - probes.model.mean / (steps.wait.mean + steps.compute.mean)))
    is_bound_by_data = probes.loader.mean > probes.model.mean
    seconds |= {"data_wait": training, "compute": 0.0} if is_bound_by_data else {"data_wait": 0.0, "compute": training}
    limits = max(seconds, key=seconds.__getitem__)
    line = f"{_NAMES[limits]}: {100 * seconds[limits] / prediction.wall_seconds:.0f} % of the run"
    if limits in ("data_wait", "compute"):
        batch = config.data.batch_size
        loader, model = batch / max(probes.loader.mean, 1e-9), batch / probes.model.mean
        line += f"; {loader:,.0f} views/s come, and the model could take {model:,.0f}"
    found = [
        *_for_data(config, lost, num_threads),
        *_for_compute(config, seconds["compute"]),
        *_for_the_rest(config, counts, seconds),
    ]
    least = max(_LEAST_SECONDS, _WORTH_IT * prediction.wall_seconds)
    worth = sorted((one for one in found if one[0] >= least), reverse=True)
    return {"limits": limits, "line": line, "steps": [{"saves_at_most": most, "what": what} for most, what in worth]}


def _for_data(config: RunConfig, waited: float, num_threads: int) -> list[tuple[float, str]]:
    data, augment = config.data, config.augment
    found = []
    cores = num_cores()
    if num_threads < cores:
        found.append((waited * (1 - num_threads / cores), f"more workers: data.num_workers={cores}, and it has {num_threads}"))
    if torch.cuda.is_available() and data.decode == "cpu":
        found.append((waited, "decoding and augmentation on the GPU: data.decode=auto, augment.device=auto"))
    if augment.repeats < 3:
        found.append((waited * (1 - augment.repeats / 3), "decoding once for several views: augment.repeats=3"))
    sides = 1.15 * data.resolution  # of a short side: crops are seldom enlarged then
    found.append((waited / 2, f"a smaller beton: images written with a shorter side of {sides:.0f} pixels or a little more"))
    return found


def _for_compute(config: RunConfig, seconds: float) -> list[tuple[float, str]]:
    found = []
    on_gpu = torch.cuda.is_available() and config.train.device != "cpu"
    if on_gpu and config.train.compile == "off":
        found.append(((1 - _COMPILED) * seconds, "compiling: train.compile=default"))
    if on_gpu and config.train.amp == "off":
        found.append((seconds / 2, "mixed precision: train.amp=bf16"))
    if on_gpu:
        total = torch.cuda.mem_get_info()[1]
        if torch.cuda.max_memory_allocated() < 0.4 * total:
            found.append(
                (0.1 * seconds, f"a larger batch: {torch.cuda.max_memory_allocated() / total:.0%} of the memory is used")
            )
    if not config.data.start_resolution and config.data.resolution > 96:
        start = round(0.7 * config.data.resolution / 32) * 32
        saved = seconds * (1 - start**2 / config.data.resolution**2) / 2
        found.append((saved, f"progressive resolution, where accuracy allows it: data.start_resolution={start}"))
    return found


def _for_the_rest(config: RunConfig, counts: RunCounts, seconds: dict[str, float]) -> list[tuple[float, str]]:
    found = []
    if counts.num_evaluations > 1:
        saved = seconds["evaluation"] * (1 - 1 / min(counts.num_evaluations, 4))
        found.append((saved, f"fewer evaluations: train.eval_every={4 * config.train.eval_every}"))
    if config.train.ema_decay:
        found.append((seconds["evaluation"] / 2, "evaluating one set of weights, without an average: train.ema_decay=off"))
    if counts.num_checkpoints > 1:
        every = 4 * config.train.checkpoint_every
        found.append((0.75 * seconds["checkpoint"], f"fewer checkpoints: train.checkpoint_every={every}"))
    return found
