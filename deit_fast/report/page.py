"""What stands on the page of a report, written by the template `page.html.jinja`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deit_fast.config import UserError
from deit_fast.record.runs import Run, duration, price_words
from deit_fast.report import contents
from deit_fast.report.ablation import ablation_table, differences_table
from deit_fast.report.accuracy import accuracy_figures
from deit_fast.report.curves import COMPARISONS, comparison_figure, curves_figure, panels_of
from deit_fast.report.drawing import Drawing
from deit_fast.report.figures import prediction_figure, price_figures, time_figure
from deit_fast.report.html import rendered
from deit_fast.report.inputs import Inputs, ReportedRun, dataset_of, inference_rows
from deit_fast.report.published import NUM_VAL_IMAGES, PublishedFigure, published_figures
from deit_fast.report.published_curves import PublishedCurve, published_curves
from deit_fast.report.tables import Table, difference, number, percent, shown
from deit_fast.report.target_figures import target_figures
from deit_fast.report.targets import Comparison, target_table


@dataclass(frozen=True)
class Chapter:
    """A part of the page that compares: a remark, figures, then tables."""

    title: str
    remark: str
    drawings: Sequence[Drawing]
    tables: Sequence[Table]


def chapters(
    inputs: Inputs, published: Sequence[str], comparison: Comparison, given_curves: Sequence[PublishedCurve] = ()
) -> list[Chapter]:
    """The page's parts that compare; those about which nothing is known are left out. given_curves: of other codes."""
    runs, figures = inputs.runs, published_figures(published)
    several = len(runs) > 1
    prices = price_figures(inputs, figures) if several or inputs.benches or published else []
    curves: list[Drawing | None] = [
        Drawing(f"curves-{file_name(panel).lower()}", f"{panel} of all runs", comparison_figure(runs, panel))
        for panel in COMPARISONS
        if several
    ]
    of_publications = published_curves(published)
    curves += accuracy_figures(comparison, [*of_publications, *given_curves])
    has_targets = len(comparison.recipes) > 1 or comparison.targets
    targets = target_figures(comparison) if has_targets else []
    times = (time_figure(runs) if several else None, prediction_figure(runs))
    inference, of_others = contents.inference_table(inputs), contents.published_table(figures)
    found = [
        _chapter("Runs", contents.runs_table(inputs)),
        _chapter("Failed points", contents.failed_table(inputs)),
        _chapter("Accuracy and its price", *prices, inference, of_others, remark=_remark(inputs, figures)),
        _chapter("Time to a target", *targets, target_table(comparison), remark=_remark_on_targets(comparison)),
        _chapter("Curves", *curves, remark=_remark(inputs, of_publications)),
        _chapter("Where the time went", *times, *_times(inputs)),
        _chapter("Ablation", ablation_table(runs, published)),
        _chapter("Differences in configuration", differences_table(runs)),
    ]
    return [chapter for chapter in found if chapter.drawings or chapter.tables]


def _times(inputs: Inputs) -> tuple[Table | None, ...]:
    return contents.time_table(inputs), contents.loader_table(inputs), contents.prediction_table(inputs)


def _chapter(title: str, *parts: Drawing | Table | None, remark: str = "") -> Chapter:
    drawings = [part for part in parts if isinstance(part, Drawing)]
    return Chapter(title, remark, drawings, [part for part in parts if isinstance(part, Table)])


def _remark(inputs: Inputs, published: Sequence[PublishedFigure] | Sequence[PublishedCurve]) -> str:
    """A warning where published figures stand beside runs of other data."""
    counts = {dataset_of(one.run).get("val num_images") for one in inputs.runs} - {None, NUM_VAL_IMAGES}
    if not published or not counts:
        return ""
    return (
        f"The published figures are of ImageNet-1k and its {NUM_VAL_IMAGES:,} validation images, the runs of other data "
        f"({counts.pop()} validation images): their accuracies cannot be compared."
    )


def _remark_on_targets(comparison: Comparison) -> str:
    """Where there is no table, how to get one."""
    return "" if comparison.targets else "--report.target=top1=PERCENT adds a table of the times to that target."


def file_name(words: str) -> str:
    """Words as the name of a file."""
    return re.sub(r"[^A-Za-z0-9.=_]+", "-", words).strip("-.")[:80] or "run"


def page(title: str, inputs: Inputs, chapters: Sequence[Chapter]) -> str:
    """The page as HTML that needs no other file: its chapters, results of bench, and a section for each run.

    All text of the inputs is escaped, by the template. Raises UserError for a run.json that lacks entries.
    """
    return rendered(
        "page.html.jinja",
        title=title,
        sweeps=inputs.sweeps,
        chapters=chapters,
        benches={path: contents.bench_facts(found) for path, found in inputs.benches.items() if not inference_rows(found)},
        sections=[_section(one) for one in inputs.runs],
    )


def _section(one: ReportedRun) -> dict[str, Any]:
    """All about one run: key figures, curves, and what it was asked to do on which machine."""
    run, numbers = one.run, one.numbers
    facts = {
        "State": numbers["state"],
        "Model": numbers["model"],
        "Parameters": shown(numbers["num_parameters"], number),
        "Top-1 raw, best": _best(numbers, "model"),
        "Top-1 EMA, best": _best(numbers, "ema"),
        "Train top-1, last": shown(numbers["train_top1"], percent),
        "Images/s, median epoch": shown(numbers["images_per_second"], number),
        "Wall time" if numbers["finished"] else "Wall time of its epochs": duration(numbers["wall_seconds"]),
    }
    if numbers["predicted_seconds"] is not None:
        facts["Predicted"] = f"{duration(numbers['predicted_seconds'])}, actual {difference(numbers['off'] or 0)}"
    if numbers["dollars"] is not None:
        facts["Cost"] = f"{price_words(numbers['dollars'])} at ${run.config['run.dollars_per_hour']:,.2f} an hour"
    try:
        origin = _origin(run)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.folder / 'run.json'}: has not the entries of a run ({type(error).__name__}: {error})") from error
    return {
        "title": one.label,
        "facts": facts,
        "checkpoint": shown(numbers["checkpoint"]),
        "drawings": [Drawing("", f"{panel} of {one.name}", curves_figure(run, [panel])) for panel in panels_of(run)],
        "origin": origin,
        "config": run.config,
    }


def _best(numbers: dict[str, Any], weights: str) -> str:
    epoch = numbers[f"top1_{weights}_epoch"]
    return shown(numbers[f"top1_{weights}"], percent) + ("" if epoch is None else f" after epoch {epoch + 1}")


def _origin(run: Run) -> dict[str, str]:
    """By which command, on which machine and with what the run was made."""
    record, hardware = run.record, run.record.get("hardware") or {}
    machine = [f"{hardware.get('cpu')}, {hardware.get('allowed_cores')} of {hardware.get('logical_cores')} cores"]
    machine += [f"{(hardware.get('memory_bytes') or 0) / 2**30:.0f} GiB of memory"]
    machine += [f"{gpu['name']} with {gpu['memory_bytes'] / 2**30:.0f} GiB" for gpu in hardware.get("gpus") or []]
    setting = ("device", "amp", "world_size", "global_batch_size", "steps_per_epoch", "lr")
    origin = {
        "command": " ".join(map(str, record.get("command") or [])),
        "commit": record.get("git_commit") or "not known",
        "training": ", ".join(f"{name} {run.start[name]}" for name in setting if name in run.start),
        "hardware": ", ".join(machine),
        "versions": ", ".join(f"{name} {found or 'none'}" for name, found in (record.get("versions") or {}).items()),
        "folder": str(run.folder),
    }
    for place, session in enumerate(record["sessions"], start=1):
        changed = ", ".join(f"{name}: {value}" for name, value in session.get("changes", {}).items())
        origin[f"session {place}"] = f"{session.get('started')} on {session.get('host')}" + (changed and f"; {changed}")
    return origin
