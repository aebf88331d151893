"""Formats the result of a plan as text."""

from __future__ import annotations

import datetime
from typing import Any

from deit_fast.record.text_table import text_table

_QUIET_CORES = 0.15  # that others may keep busy without a word


def table(result: dict[str, Any]) -> str:
    """Hours, dollars, where the time goes, what limits the run, and how far earlier plans were off."""
    prediction, shape = result["prediction"], result["shape"]
    total = prediction["wall_seconds"]
    epochs = sum(sum(shape[name].values()) for name in ("epochs_at", "tail_at"))
    rows = [
        ("wall clock", f"{clock_time(total)} ({clock_time(prediction['low'])} to {clock_time(prediction['high'])})"),
        ("hours", f"{total / 3600:,.3f}"),
        ("epochs", f"{epochs:,} of {shape['steps_per_epoch']:,} steps, {result['epochs_per_day']:,.1f} a day"),
        *(("dollars", _cost_line(cost)) for cost in result["costs"]),
    ]
    if result["kilowatt_hours"] is not None:
        rows.append(("energy of the GPUs", f"{result['kilowatt_hours']:,.2f} kWh"))
    rows += [
        (f"  {kind.replace('_', ' ')}", f"{clock_time(seconds):>8} {100 * seconds / total:5.1f} %")
        for kind, seconds in prediction["seconds"].items()
    ]
    rows += [
        (
            f"  stage {number}",
            f"{clock_time(stage['seconds']):>8} {100 * stage['seconds'] / total:5.1f} %, "
            f"{_of_stage(stage, result['config']['data']['train'])}",
        )
        for number, stage in enumerate(result["stages"], start=1)
    ]
    rows += [(f"images/s, {kind}", f"{rate:,.0f}") for kind, rate in result["images_per_second"].items()]
    if result["stored_labels"] is not None:
        rows.append(("labels first", _labels_line(result["stored_labels"], result["costs"])))
    rows.append(("limit", result["advice"]["line"]))
    rows += [
        ("would help" if number == 0 else "", f"{step['what']} (at most {clock_time(step['saves_at_most'])} less)")
        for number, step in enumerate(result["advice"]["steps"])
    ]
    rows.append(("earlier plans", _earlier_line(result["earlier"])))
    if (result["other_cores"] or 0.0) > _QUIET_CORES:
        rows.append(
            ("others", f"{result['other_cores']:.1f} cores were busy with something else; plan again, unless they will be then")
        )
    if result["is_extrapolated"]:
        rows.append(("a model", f"{result['gpus']} GPUs were not measured: one was, and the others are assumed to be its like"))
    return "\n".join(text_table(rows, "<<", gap=3 * " "))


def _of_stage(stage: dict[str, Any], train: str) -> str:
    own = f", {stage['betons']}" if stage["betons"] != train else ""
    return f"{stage['epochs']} epochs at {stage['resolution']} pixels{own}"


def _cost_line(cost: dict[str, Any]) -> str:
    machines = f"{cost['machines']} machines, " if cost["machines"] > 1 else ""
    of = f"{machines}{cost['name']}: ${cost['dollars_per_hour']:,.2f} an hour"
    return f"${cost['dollars']:,.2f} (${cost['low']:,.2f} to ${cost['high']:,.2f}), {of}"


def _labels_line(labels: dict[str, Any], costs: list[dict[str, Any]]) -> str:
    """Both ways to learn from a teacher, in time, and at the first price."""
    rate = costs[0]["machines"] * costs[0]["dollars_per_hour"] / 3600 if costs else None

    def taking(seconds: float) -> str:
        return clock_time(seconds) + ("" if rate is None else f" (${rate * seconds:,.2f})")

    pays_from = labels["pays_from"]
    pays = f"pays from {pays_from} runs on" if pays_from is not None else "does not pay: the loader is the limit"
    return f"deit-fast teach {taking(labels['teach'])}, then {taking(labels['stored'])} a run: {pays}"


def _earlier_line(earlier: list[dict[str, Any]]) -> str:
    if not earlier:
        return "none on this machine came to their end yet"
    off = [100 * (run["ratio"] - 1) for run in earlier]
    return f"{len(off)} on this machine: runs took {min(off):+.1f} to {max(off):+.1f} % of what was predicted more"


def clock_time(seconds: float) -> str:
    """Seconds as H:MM:SS, with days before them if there are any."""
    return str(datetime.timedelta(seconds=round(seconds)))
