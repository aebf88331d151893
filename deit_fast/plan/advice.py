"""Says what limits a measured run and what would speed it up, the most effective first."""

from __future__ import annotations

from typing import Any

import torch

from deit_fast.config import RunConfig
from deit_fast.cores import num_cores
from deit_fast.plan.prediction import Prediction
from deit_fast.plan.probe import Probes
from deit_fast.plan.run_counts import RunCounts
from deit_fast.train.schedule import has_changing_views

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
    least = max(_LEAST_SECONDS, _WORTH_IT * prediction.wall_seconds)
    worth = sorted((one for one in _steps(config, counts, seconds, lost, num_threads) if one[0] >= least), reverse=True)
    return {"limits": limits, "line": line, "steps": [{"saves_at_most": most, "what": what} for most, what in worth]}


def _steps(
    config: RunConfig, counts: RunCounts, seconds: dict[str, float], waited: float, num_threads: int
) -> list[tuple[float, str]]:
    """What can be done about a run, with the most seconds that each can save. waited: seconds lost to the data path."""
    data, train, repeats, cores = config.data, config.train, config.augment.repeats, num_cores()
    has_gpu = torch.cuda.is_available()
    on_gpu = has_gpu and train.device != "cpu"
    memory = torch.cuda.max_memory_allocated() / torch.cuda.mem_get_info()[1] if on_gpu else 1.0
    start = round(0.7 * data.resolution / 32) * 32
    compute, evaluation, checkpoint = (seconds[kind] for kind in ("compute", "evaluation", "checkpoint"))
    rows = [  # whether it applies, the seconds that it saves at most, and what to do
        (num_threads < cores, waited * (1 - num_threads / cores),
         f"more workers: data.num_workers={cores}, and it has {num_threads}"),
        (has_gpu and data.decode == "cpu", waited,
         "decoding and augmentation on the GPU: data.decode=auto, augment.device=auto"),
        (repeats < 3, waited * (1 - repeats / 3), "decoding once for several views: augment.repeats=3"),
        (True, waited / 2,  # crops are seldom enlarged then
         f"a smaller beton: images written with a shorter side of {1.15 * data.resolution:.0f} pixels or a little more"),
        (on_gpu and train.compile == "off", (1 - _COMPILED) * compute, "compiling: train.compile=default"),
        (on_gpu and train.amp == "off", compute / 2, "mixed precision: train.amp=bf16"),
        (memory < 0.4, 0.1 * compute, f"a larger batch: {memory:.0%} of the memory is used"),
        (not has_changing_views(config) and data.resolution > 96, compute * (1 - start**2 / data.resolution**2) / 2,
         f"progressive resolution, where accuracy allows it: data.start_resolution={start}"),
        (counts.num_evaluations > 1, evaluation * (1 - 1 / min(counts.num_evaluations, 4)),
         f"fewer evaluations: train.eval_every={4 * train.eval_every}"),
        (bool(train.ema_decay), evaluation / 2, "evaluating one set of weights, without an average: train.ema_decay=off"),
        (counts.num_checkpoints > 1, 0.75 * checkpoint,
         f"fewer checkpoints: train.checkpoint_every={4 * train.checkpoint_every}"),
    ]  # fmt: skip
    return [(most, what) for applies, most, what in rows if applies]
