"""Takes a YAML of options that vary, gives a folder with a finished run for each point, whatever ends it in between."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deit_fast.cli import given_options
from deit_fast.config import RunConfig, SweepConfig, UserError
from deit_fast.study.sweep.costs import Budget, Predict, check_prices, predictions, table, totals
from deit_fast.study.sweep.file import read_sweep_file
from deit_fast.study.sweep.here import Process, shares
from deit_fast.study.sweep.jobs import Job
from deit_fast.study.sweep.ledger import Ledger, check_same_sweep, is_finished, read_attempts
from deit_fast.study.sweep.points import Point, points_of
from deit_fast.study.sweep.runner import Outcome, Runner, Start, say, to_run
from deit_fast.train.slurm import make_executor

__all__ = ["sweep"]


def sweep(config: RunConfig, words: Sequence[str], predict: Predict | None = None) -> dict[str, Any]:
    """`deit-fast sweep *words`: trains at every point of a sweep that has no result yet. Gives what became of them.

    config: of these words. predict: what a run will take, for budgets and dry runs; None: as `plan` predicts it. SIGINT,
    SIGTERM and SIGHUP end it early, in checkpoints. Raises UserError for whatever is wrong with any point, before the first
    starts, and at the end where points failed, with their names; KeyboardInterrupt after SIGINT.
    """
    section = config.sweep
    if not section.file:
        raise UserError("sweep.file is not set: want the YAML of a sweep")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a sweep starts its runs itself: start it once, without torchrun")
    file = read_sweep_file(Path(section.file))
    name = file.path.stem
    folder = Path(section.dir or f"runs/{name}")
    points = points_of(file, given_options("sweep", words)[0], section, folder)
    check_prices(section, points)
    check_same_sweep(folder, points)
    if section.dry_run:
        return _dry_run(name, folder, points, section, predict or _plan)
    num_places = section.at_once or len(points)
    places = shares(points, section.at_once) if section.where == "here" else []
    with Ledger(folder, name, file.varied, points) as ledger:
        left = to_run(ledger, section.retry)
        if left and section.where == "slurm":
            make_executor(left[0].config)  # refuses where there is no such cluster
        say(f"{name}: {len(points)} points, {len(left)} to run, in {folder}")
        has_budget = bool(section.hours or section.dollars)
        budget = Budget(section, predictions(left, predict or _plan)) if has_budget else None

        def start_here(point: Point, place: int) -> Process:
            return Process(point, ledger, places[place])

        def start_job(point: Point, place: int) -> Job:
            return Job(point, ledger)

        start: Start = start_here if section.where == "here" else start_job
        outcome = Runner(ledger, start, len(places) or num_places, budget).run(left)
        return _result(name, ledger, outcome, words)


def _plan(config: RunConfig) -> Any:
    """What `plan` predicts. Imported when first asked for: it loads all that a run needs."""
    from deit_fast.study.plan import predict

    return predict(config)


def _dry_run(name: str, folder: Path, points: Sequence[Point], section: SweepConfig, predict: Predict) -> dict[str, Any]:
    """Prints what a sweep would train and what that is predicted to cost; writes nothing."""
    attempts = read_attempts(folder)
    states = {point.name: "finished" for point in points if is_finished(point)}
    if not section.retry:
        failed = {point.name: "failed" for point in points if attempts.last(point) == "failed"}
        states = failed | states
    predicted = predictions(points, predict)
    for line in table(points, predicted, states):
        say(line)
    rows = [
        {
            "point": point.name, "options": point.options, "status": states.get(point.name, "to run"),
            "seconds": predicted[point.name].seconds, "low": predicted[point.name].low, "high": predicted[point.name].high,
        }
        for point in points
    ]  # fmt: skip
    return {"name": name, "dir": str(folder), "points": rows, "to_run": totals(points, predicted, states)}


def _result(name: str, ledger: Ledger, outcome: Outcome, words: Sequence[str]) -> dict[str, Any]:
    """The result as JSON has it, after saying how to go on. Raises UserError where points failed, now or in earlier sweeps."""
    again = shlex.join(["deit-fast", "sweep", *words])
    failed = [point.name for point in ledger.points if not is_finished(point) and ledger.attempts.last(point) == "failed"]
    num_finished = sum(map(is_finished, ledger.points))
    if outcome.stopped_by:
        say(f"stopped by {outcome.stopped_by} with {num_finished} of {len(ledger.points)} points finished; go on with: {again}")
        if outcome.stopped_by == "SIGINT":
            raise KeyboardInterrupt
    elif outcome.refusal:
        say(f"{len(outcome.not_started)} point(s) not started: {outcome.refusal}; go on with a larger budget: {again}")
    if failed and not outcome.stopped_by:
        tried = "" if outcome.failed else " before; sweep.retry tries them again"
        raise UserError(f"{len(failed)} of {len(ledger.points)} points failed{tried}: {', '.join(failed)}")
    return {
        "name": name,
        "dir": str(ledger.folder),
        "num_points": len(ledger.points),
        "num_finished": num_finished,
        "failed": failed,
        "not_started": [point.name for point in outcome.not_started],
        "stopped_by": outcome.stopped_by or None,
        "refusal": outcome.refusal or None,
    }
