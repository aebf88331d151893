"""Takes the report's options, writes the page and what else they ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deit_fast.config import ReportConfig, UserError
from deit_fast.record.run import write_bytes
from deit_fast.report.ablation import ablation_table, differences_table
from deit_fast.report.contents import (
    csv_rows,
    failed_table,
    inference_table,
    prediction_table,
    published_table,
    runs_table,
    time_table,
)
from deit_fast.report.curves import COMPARISONS, PANELS, comparison_figure, curves_figure
from deit_fast.report.figures import prediction_figure, price_figures, time_figure
from deit_fast.report.inputs import Inputs, dataset_of, read_inputs
from deit_fast.report.page import Chapter, page
from deit_fast.report.published import NUM_VAL_IMAGES, check_published, published_figures
from deit_fast.report.render import Drawing, png
from deit_fast.report.tables import Table, as_csv, as_markdown

_RECORDS = ("run.json", "log.jsonl", "summary.json", "sweep.json", "points.jsonl", "ledger.jsonl")


def write_report(config: ReportConfig) -> dict[str, Any]:
    """Writes the page, each run's curves.png and what else is asked for; gives the page's path and each run's numbers.

    Raises UserError where nothing is named to report on, for a path that is no run, sweep or result of bench, for runs of
    different datasets, and for files that cannot be written. Nothing is written before everything was read and drawn.
    """
    if not config.runs:
        raise UserError("report.runs is empty: want the folder of at least one run, as in --report.runs=runs/demo")
    check_published(config.published)
    first = Path(config.runs[0])
    html = Path(config.html) if config.html else (first.parent if first.is_file() else first) / "report.html"
    _check_outputs(config, html)
    inputs = read_inputs(config.runs)
    if not inputs.runs and not inputs.benches:
        raise UserError(f"{config.runs[0]}: holds no run that trained; nothing to report on")
    about = _about(inputs)
    title = f"Report of {inputs.runs[0].name if about == '1 run' else about}"
    chapters = _chapters(inputs, config.published)
    contents: dict[Path, bytes] = {html: page(title, inputs, chapters).encode()}
    for one in inputs.runs:
        contents[one.run.folder / "curves.png"] = png(curves_figure(one.run, list(PANELS)))
        if config.images:
            contents[Path(config.images) / f"run-{one.place}-{_file_name(one.name)}.png"] = contents[
                one.run.folder / "curves.png"
            ]
    if config.images:
        drawings = [drawing for chapter in chapters for drawing in chapter.drawings]
        contents |= {Path(config.images) / f"{drawing.name}.png": png(drawing.figure) for drawing in drawings}
    if config.markdown:
        contents[Path(config.markdown)] = _markdown(title, chapters).encode()
    if config.csv:
        contents[Path(config.csv)] = as_csv(csv_rows(inputs)).encode()
    for path, content in contents.items():
        _write(path, content)
    print(f"report of {about}: {html}")
    return {"html": str(html), "runs": [one.numbers for one in inputs.runs]}


def _about(inputs: Inputs) -> str:
    num_runs, num_benches = len(inputs.runs), len(inputs.benches)
    counts = [f"{num_runs} run{'s' * (num_runs > 1)}"] if num_runs else []
    counts += [f"{num_benches} result{'s' * (num_benches > 1)} of bench"] if num_benches else []
    return " and ".join(counts)


def _chapters(inputs: Inputs, published: Sequence[str]) -> list[Chapter]:
    """The page's parts that compare; those about which nothing is known are left out."""
    runs, figures = inputs.runs, published_figures(published)
    several = len(runs) > 1
    prices = price_figures(inputs, figures) if several or inputs.benches or published else []
    curves = [
        Drawing(f"curves-{_file_name(panel).lower()}", f"{panel} of all runs", comparison_figure(runs, panel))
        for panel in COMPARISONS
        if several
    ]
    predicted = prediction_figure(runs)
    times = [time_figure(runs)] if several else []
    times += [predicted] if predicted else []
    parts: list[tuple[str, list[Drawing], list[Table | None], str]] = [
        ("Runs", [], [runs_table(inputs)] if runs else [], ""),
        ("Failed points", [], [failed_table(inputs)], ""),
        ("Accuracy and its price", prices, [inference_table(inputs), published_table(figures)], _remark(inputs, published)),
        ("Curves", curves, [], ""),
        ("Where the time went", times, [time_table(inputs), prediction_table(inputs)], ""),
        ("Ablation", [], [ablation_table(runs, published)], ""),
        ("Differences in configuration", [], [differences_table(runs)], ""),
    ]
    found = []
    for title, drawings, tables, remark in parts:
        there = [table for table in tables if table is not None]
        if drawings or there:
            found.append(Chapter(title, drawings, there, remark))
    return found


def _remark(inputs: Inputs, published: Sequence[str]) -> str:
    """A warning where published figures stand beside runs of other data."""
    counts = {dataset_of(one.run).get("val num_images") for one in inputs.runs} - {None, NUM_VAL_IMAGES}
    if not published or not counts:
        return ""
    return (
        f"The published figures are of ImageNet-1k and its {NUM_VAL_IMAGES:,} validation images, the runs of other data "
        f"({counts.pop()} validation images): their accuracies cannot be compared."
    )


def _markdown(title: str, chapters: Sequence[Chapter]) -> str:
    tables: list[Table] = [table for chapter in chapters for table in chapter.tables]
    return "\n".join([f"# {title}\n", *map(as_markdown, tables)])


def _file_name(words: str) -> str:
    """Words as the name of a file."""
    return re.sub(r"[^A-Za-z0-9.=_]+", "-", words).strip("-.")[:80] or "run"


def _check_outputs(config: ReportConfig, html: Path) -> None:
    """Raises UserError where a file to write is a record, an input, a folder, or the same as another."""
    seen = {Path(path).resolve(): "report.runs" for path in config.runs}
    for option, path in (("html", html), ("markdown", Path(config.markdown)), ("csv", Path(config.csv))):
        if option != "html" and not getattr(config, option):
            continue
        what = f"report.{option}={path}"
        if path.is_dir():
            raise UserError(f"{what}: cannot be written (is a folder); want the name of a file")
        if path.name in _RECORDS:
            raise UserError(f"{what}: is the name of a record; want another")
        other = seen.setdefault(path.resolve(), f"report.{option}")
        if other != f"report.{option}":
            raise UserError(f"{what}: is {other} too; want another file")
    if config.images and Path(config.images).exists() and not Path(config.images).is_dir():
        raise UserError(f"report.images={config.images}: is a file; want a folder")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); want a folder that you may write to") from None
