"""Predicts hours and dollars of a run, and what limits it, by measuring its parts: `deit-fast plan`."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.data.load.order import TrainOrder, steps_per_epoch
from deit_fast.plan import ledger
from deit_fast.plan.advice import advice
from deit_fast.plan.figure import plan_png
from deit_fast.plan.other_load import OtherLoad
from deit_fast.plan.placement import placed
from deit_fast.plan.power import PowerMeter
from deit_fast.plan.predict import predicted_seconds, training_shares
from deit_fast.plan.prediction import Prediction
from deit_fast.plan.prices import Price, read_prices
from deit_fast.plan.probe import Probes, probe
from deit_fast.plan.run_counts import RunCounts, counts_of
from deit_fast.plan.scale import scaled
from deit_fast.plan.stored import Stored, stored_labels
from deit_fast.plan.table import table
from deit_fast.record.clock import process_seconds
from deit_fast.record.picture import picture_to_write
from deit_fast.record.run import hardware, versions, write_bytes
from deit_fast.train.dist import joined_world, world_size_of_environment
from deit_fast.train.trainer import Trainer


@dataclass(frozen=True)
class Measured:
    """What was measured of a configuration on this machine.

    setup: seconds until its first step. watts: of a GPU; None: not reported. other_cores: that others kept busy meanwhile."""

    config: RunConfig  # with the placement that was decided
    num_samples: int
    num_threads: int
    gradient_bytes: int
    setup: float
    probes: Probes
    watts: float | None
    other_cores: float | None


def plan(config: RunConfig) -> dict[str, Any]:
    """`deit-fast plan`: seconds of a training run by kind, its dollars, and what would help.

    Measures loader, model, both, evaluation and checkpoints for plan.seconds, corrects that by what earlier runs of this
    machine took beyond their plans, and adds the plan to the ledger beside run.dir, where the run will find it. Raises
    UserError for whatever would stop the run, for prices that cannot be read, and for a broken ledger.
    """
    prices = read_prices(config.plan.prices, config.run.dollars_per_hour)
    runs = _runs_folder(config)
    machine = ledger.machine_of(hardware())
    earlier = ledger.outcomes(ledger.read(runs), machine)
    figure = picture_to_write("plan.figure", config.plan.figure, config.out)
    measured = measure(config, report=print)
    gpus = config.plan.gpus or 1
    counts, prediction = predicted(measured, gpus, earlier)
    by_part = rates(measured)
    labels = priced_labels(measured, gpus)
    result = {
        "prediction": prediction.as_dict(),
        "hours": prediction.wall_seconds / 3600,
        "epochs_per_day": 86400 * counts.epochs / prediction.wall_seconds,
        "gpus": gpus,
        "is_extrapolated": gpus != 1,
        "costs": [_cost(price, prediction, gpus) for price in prices],
        "kilowatt_hours": None if measured.watts is None else gpus * measured.watts * prediction.wall_seconds / 3.6e6,
        "other_cores": measured.other_cores,
        "shape": dataclasses.asdict(counts),
        "stages": _stages(measured.config, counts, measured.probes, prediction),
        "probes": dataclasses.asdict(measured.probes),
        "stored_labels": None if labels is None else dataclasses.asdict(labels),
        "images_per_second": by_part,
        "step_seconds": {part: measured.config.data.batch_size / rate for part, rate in by_part.items()},
        "advice": advice(measured.config, counts, measured.probes, prediction, measured.num_threads),
        "earlier": [{"run": run.run, "ratio": run.ratio} for run in earlier],
        "machine": machine,
        "config": measured.config.as_dict(),
        "hardware": hardware(),
        "versions": versions(),
    }
    print(table(result))
    if figure is not None:
        write_bytes(figure, plan_png(result))
        print(f"figure: {figure}")
    if not result["is_extrapolated"]:
        runs.mkdir(parents=True, exist_ok=True)
        ledger.append_plan(runs, config, 1, machine, prediction)
    return result


def predict(config: RunConfig, seconds: float = 20.0) -> Prediction:
    """Predicts what a run will take, by measuring for about that many seconds. Prints and writes nothing."""
    config = config.changed({"plan.seconds": seconds})
    with redirect_stdout(StringIO()):
        measured = measure(config)
    earlier = ledger.outcomes(ledger.read(_runs_folder(config)), ledger.machine_of(hardware()))
    return predicted(measured, config.plan.gpus or 1, earlier)[1]


def measure(config: RunConfig, report: Callable[[str], None] = lambda _: None) -> Measured:
    """Builds what the run would build, and measures it. Raises UserError for whatever would stop the run."""
    imported, started = _imported_seconds(), time.perf_counter()
    check_training(config, world_size_of_environment())
    if world_size_of_environment() > 1:
        raise UserError("plan: measures one rank; start it without torchrun, and set plan.gpus to the number of GPUs")
    if (config.budget.hours, config.budget.dollars) != (None, None):
        raise UserError("plan: a budget decides on the epochs itself; leave budget.hours and budget.dollars out")
    with joined_world(config.train.device) as world:
        trainer = Trainer(placed(config, world)[0], world)
        try:
            setup = imported + time.perf_counter() - started
            report(f"measuring for about {config.plan.seconds:.0f} seconds")
            with PowerMeter(world.device) as meter, OtherLoad() as others:
                probes = probe(trainer, Path(config.run.dir or "runs"), config.plan.seconds)
            order = trainer.train_loader.order
            assert isinstance(order, TrainOrder)
            parameters = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
            return Measured(
                config=trainer.config,
                num_samples=len(order.samples),
                num_threads=trainer.train_loader.num_workers,
                gradient_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
                setup=setup,
                probes=probes,
                watts=meter.watts,
                other_cores=others.cores,
            )
        finally:
            trainer.close()


@functools.cache
def _imported_seconds() -> float:
    """Seconds from the creation of this process to its first measurement; a run needs as long before it builds anything."""
    return process_seconds()


def predicted(measured: Measured, gpus: int, earlier: Sequence[ledger.Outcome]) -> tuple[RunCounts, Prediction]:
    """Counts of the run on a number of GPUs, and its prediction, corrected by earlier runs of the machine."""
    counts, probes = _on_gpus(measured, gpus)
    seconds, error = predicted_seconds(counts, probes, measured.setup)
    return counts, ledger.corrected(seconds, error, earlier, "plan")


def priced_labels(measured: Measured, gpus: int) -> Stored | None:
    """What labels by `deit-fast teach` would take and save on a number of GPUs, before corrections by earlier runs."""
    return stored_labels(*_on_gpus(measured, gpus), measured.setup)


def _on_gpus(measured: Measured, gpus: int) -> tuple[RunCounts, Probes]:
    """Counts of the run on a number of GPUs, and what would be measured on each of them."""
    config, probes = measured.config, measured.probes
    if gpus != 1:
        probes = scaled(config, probes, gpus, measured.num_threads, measured.gradient_bytes)
    return counts_of(config, steps_per_epoch(measured.num_samples, config.data.batch_size, gpus)), probes


def rates(measured: Measured) -> dict[str, float]:
    """Views per second on one GPU at the largest resolution: of the loader alone, of the model alone, and of both."""
    batch, probes = measured.config.data.batch_size, measured.probes
    steps = next(iter(probes.steps.values()))
    both = steps.wait.mean + steps.compute.mean
    return {"loader": batch / max(probes.loader.mean, 1e-9), "model": batch / probes.model.mean, "both": batch / both}


def _stages(config: RunConfig, counts: RunCounts, probes: Probes, prediction: Prediction) -> list[dict[str, Any]]:
    """Epochs, resolution, betons and predicted seconds of training of each stage of schedule.stages."""
    if not config.schedule.stages:
        return []
    training = prediction.seconds["compute"] + prediction.seconds["data_wait"]
    return [
        {"epochs": epochs, "resolution": stage.resolution, "betons": stage.betons, "seconds": share * training}
        for stage, epochs, share in training_shares(config, counts.steps_per_epoch, probes)
    ]


def _cost(price: Price, prediction: Prediction, gpus: int) -> dict[str, Any]:
    machines = math.ceil(gpus / price.gpus) if price.gpus else 1
    dollars = [
        machines * price.dollars_per_hour * value / 3600 for value in (prediction.wall_seconds, prediction.low, prediction.high)
    ]
    return {"name": price.name, "machines": machines, "dollars_per_hour": price.dollars_per_hour, "dollars": dollars[0],
            "low": dollars[1], "high": dollars[2]}  # fmt: skip


def _runs_folder(config: RunConfig) -> Path:
    """The folder that holds the folder of the run."""
    return Path(config.run.dir).absolute().parent if config.run.dir else Path("runs")
