"""Runs the parts of a bench one after another in processes of their own, so that none costs the results of the others."""

from __future__ import annotations

import gc
import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from deit_fast.config import RunConfig, UserError
from deit_fast.train.dist import World, joined_world

Part = Callable[[], dict[str, Any]]
Results = dict[str, dict[str, Any]]
# The parts of a bench, in order; they may read what the results of earlier parts are
MakeParts = Callable[[RunConfig, World, Results], dict[str, Part]]
Report = Callable[[str, dict[str, Any]], None]

NO_TIME = "no time left"
_START_SECONDS = 120.0  # for a process to import what parts need and to join its device, which is no part's time
_LONGEST_LINE = 300
_LONGEST_TRACEBACK = 4000


def run_parts(parts: dict[str, Part], results: Results, begin_before: float, report: Report) -> None:
    """Adds the result of each part that has none yet, and reports it; or {"skipped": reason}, or {"failed": error}.

    begin_before: in time.monotonic()'s seconds. Ends early where the device is of no more use to this process.
    """
    for name, part in parts.items():
        if name in results:
            continue
        results[name] = {"skipped": NO_TIME} if time.monotonic() > begin_before else _result_of(part)
        report(name, results[name])
        if not _frees_memory():
            return


def _result_of(part: Part) -> dict[str, Any]:
    try:
        return part()
    except UserError as error:
        return {"skipped": str(error)}
    except torch.OutOfMemoryError:
        return {"skipped": "does not fit into the GPU's memory; try a smaller data.batch_size"}
    except Exception as error:
        return {"failed": in_one_line(error), "traceback": traceback.format_exc()[-_LONGEST_TRACEBACK:]}


def error_of(work: Callable[[], object]) -> str:
    """Does a work; its error in one line, or nothing. For a work whose failure is to cost no other one its figures."""
    try:
        work()
    except Exception as error:
        return in_one_line(error)
    return ""


def in_one_line(error: Exception) -> str:
    """What an error is and says, not too long."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_LINE]


def _frees_memory() -> bool:
    """Frees what a part has left on the device; False if that does not work: some errors of CUDA last as long as a process."""
    gc.collect()
    if not torch.cuda.is_available():
        return True
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    except RuntimeError:
        return False
    return True


def run_apart(
    make_parts: MakeParts,
    config: RunConfig,
    device: str,
    *,
    begin_before: float,
    end_before: float,
    part_seconds: float,
    report: Report,
) -> Results:
    """The results of the parts, run in another process; where that ends early or stands still, in one more.

    A part that has neither ended nor failed after part_seconds, or before end_before, is given up; so is one whose process
    does not start. begin_before and end_before: in time.monotonic()'s seconds. device: for `joined_world`.
    """
    results: Results = {}
    names = tuple(make_parts(config, World(0, 1, torch.device(device)), {}))
    context = multiprocessing.get_context("spawn")
    while len(results) < len(names) and time.monotonic() < begin_before:
        num_before = len(results)
        here, there = context.Pipe()
        arguments = there, make_parts, config, device, results, begin_before
        process = context.Process(target=_work, args=arguments)  # no daemon: those may start no processes
        process.start()
        there.close()
        try:
            trouble = _follow(here, results, end_before, part_seconds, report)
        finally:
            process.kill()
            process.join()
        if len(results) < len(names) and (trouble or len(results) == num_before):
            name = next(name for name in names if name not in results)
            results[name] = {"failed": f"{trouble or 'its process ended'} (exit code {process.exitcode})"}
            report(name, results[name])
    for name in names[len(results) :]:
        results[name] = {"skipped": NO_TIME}
        report(name, results[name])
    return results


def _follow(connection: Connection, results: Results, end_before: float, part_seconds: float, report: Report) -> str:
    """Takes results until the process ends; gives what is wrong where it does not.

    It says first that it has started. It ends by itself after the last part, or where its device is of no more use.
    """
    limit = _START_SECONDS
    while connection.poll(seconds := max(0.0, min(limit, end_before - time.monotonic()))):
        try:
            message = connection.recv()
        except EOFError:
            return ""
        limit = part_seconds
        if message is not None:
            name, results[name] = message
            report(name, results[name])
    return f"not done after {seconds:.0f} s, given up"


def _work(
    connection: Connection, make_parts: MakeParts, config: RunConfig, device: str, results: Results, begin_before: float
) -> None:
    with joined_world(device) as world:
        connection.send(None)
        run_parts(make_parts(config, world, results), results, begin_before, lambda *result: connection.send(result))
