"""Trains a run at each point of a sweep, and continues where an earlier sweep was interrupted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, SweepConfig, UserError
from deit_fast.options.values import Given
from deit_fast.output import droppable_output
from deit_fast.plan.prediction import Prediction
from deit_fast.shipped import shipped
from deit_fast.sweep import targets
from deit_fast.sweep.costs import Budget, Predict, check_prices, predictions, table, totals
from deit_fast.sweep.file import read_sweep_file
from deit_fast.sweep.here import Process, Share, shares
from deit_fast.sweep.jobs import Job
from deit_fast.sweep.ledger import Ledger, check_same_sweep, is_finished, open_ledger, read_attempts
from deit_fast.sweep.points import Point, points_of
from deit_fast.sweep.runner import Attempt, Runner, say, to_run
from deit_fast.train.rendezvous import launch_of_environment
from deit_fast.train.slurm import make_executor

__all__ = ["sweep"]


@droppable_output()
def sweep(
    config: RunConfig, words: Sequence[str], given: Mapping[str, Given], predict: Predict | None = None
) -> dict[str, Any]:
    """`deit-fast sweep *words`: trains every point of a sweep that has no result yet. Gives the result.

    config, given: the configuration of these words, and its options unconverted. predict: predicts a run, for budgets and dry
    runs; None: with `plan`. SIGINT, SIGTERM and SIGHUP end the sweep early, with checkpoints. Raises UserError for an error in
    any point, before the first starts, and at the end with the names of failed points; KeyboardInterrupt after SIGINT.
    """
    section = config.sweep
    if not section.file:
        raise UserError("sweep.file is not set: want the YAML of a sweep")
    if launch_of_environment().world_size > 1:
        raise UserError("a sweep starts its runs itself: start it once, without torchrun")
    file = read_sweep_file(shipped(section.file))
    name = file.path.stem
    folder = Path(section.dir or f"runs/{name}")
    points = points_of(file, given, section, folder)
    check_prices(section, points)
    asked = targets.targets_of(points, section.tuned)
    check_same_sweep(folder, points)
    if section.dry_run:
        return _dry_run(name, folder, points, section, predict or _plan)
    slots: list[Share | None] = [None] * (section.at_once or len(points))  # for jobs
    if section.where == "here":
        slots = [*shares(points, section.at_once)]
    with open_ledger(folder, name, file.varied, points) as ledger:
        left = to_run(ledger, section.retry)
        if left and section.where == "slurm":
            make_executor(left[0].config)  # refuses where there is no such cluster
        say(f"{name}: {len(points)} points, {len(left)} to run, in {folder}")
        budget = None
        if (section.hours, section.dollars) != (None, None):
            if left:
                say("predicts what they will take")
            budget = Budget(section, predictions(left, predict or _plan, folder))

        def start(point: Point, slot: int) -> Attempt:
            share = slots[slot]
            return Job(point, ledger) if share is None else Process(point, ledger, share)

        runner = Runner(ledger, start, len(slots), budget, lambda point: targets.lines_after(point, asked, ledger.attempts))
        runner.run(left)
        for line in targets.table(asked, ledger.attempts):
            say(line)
        return _result(name, ledger, runner, words) | {"recipes": targets.rows_of(asked, ledger.attempts)}


def _plan(config: RunConfig) -> Prediction:
    """The prediction of `plan`, imported only when needed: it imports all that a run does."""
    from deit_fast.plan.plan import predict

    return predict(config)


def _dry_run(name: str, folder: Path, points: Sequence[Point], section: SweepConfig, predict: Predict) -> dict[str, Any]:
    """Prints the points that a sweep would train and their predicted cost; writes nothing."""
    attempts = read_attempts(folder)
    states = {point.name: "finished" for point in points if is_finished(point)}
    if not section.retry:
        states = {point.name: "failed" for point in points if attempts.last(point) == "failed"} | states
    predicted = predictions(points, predict)
    print("\n".join(table(points, predicted, states)))
    rows = []
    for point in points:
        one = predicted[point.name]
        seconds, low, high = (one.wall_seconds, one.low, one.high) if isinstance(one, Prediction) else (None, 0.0, 0.0)
        state = states.get(point.name, "to run")
        named = {"point": point.name, "options": point.options, "status": state}
        rows.append({**named, "seconds": seconds, "low": low, "high": high})
    return {"name": name, "dir": str(folder), "points": rows, "to_run": totals(points, predicted, states)}


def _result(name: str, ledger: Ledger, runner: Runner, words: Sequence[str]) -> dict[str, Any]:
    """The result for JSON; also prints how to continue. Raises UserError if points failed, now or in earlier sweeps."""
    again = shlex.join(["deit-fast", "sweep", *words])
    failed = [point.name for point in ledger.points if not is_finished(point) and ledger.attempts.last(point) == "failed"]
    num_finished = sum(map(is_finished, ledger.points))
    if runner.stopped_by:
        say(f"stopped by {runner.stopped_by} with {num_finished} of {len(ledger.points)} points finished; go on with: {again}")
        if runner.stopped_by == "SIGINT":
            raise KeyboardInterrupt
    elif runner.refusal:
        say(f"{len(runner.not_started)} point(s) not started: {runner.refusal}; go on with a larger budget: {again}")
    if failed and not runner.stopped_by:
        counted = f"{len(failed)} of {len(ledger.points)} points failed"
        raise UserError(f"{counted}: {', '.join(failed)}; --sweep.retry tries them again")
    return {
        "name": name,
        "dir": str(ledger.folder),
        "num_points": len(ledger.points),
        "num_finished": num_finished,
        "failed": failed,
        "not_started": [point.name for point in runner.not_started],
        "stopped_by": runner.stopped_by or None,
        "refusal": runner.refusal or None,
    }
