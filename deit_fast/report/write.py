"""The command `report`: checks what it is asked for, and writes the page and what goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deit_fast.config import ReportConfig, UserError
from deit_fast.record.picture import png
from deit_fast.report.contents import csv_rows
from deit_fast.report.curves import curves_figure
from deit_fast.report.html import write_file
from deit_fast.report.inputs import read_inputs
from deit_fast.report.page import chapters, file_name, page
from deit_fast.report.published import published_figures
from deit_fast.report.published_curves import read_curve
from deit_fast.report.tables import as_csv, as_markdown
from deit_fast.report.targets import check_targets, comparison_of, recipe_rows, run_columns

_RECORDS = ("run.json", "log.jsonl", "summary.json", "sweep.json", "points.jsonl", "ledger.jsonl")


def write_report(config: ReportConfig) -> dict[str, Any]:
    """Writes the page, each run's curves.png and what else is asked for; gives paths and numbers.

    Raises UserError where nothing is named to report on, for a path that is no run, sweep or result of bench, for targets and
    curves that are none, for runs of different datasets, and for files that cannot be written. Nothing is written before
    everything was read and drawn.
    """
    if not config.runs:
        raise UserError("report.runs is empty: want the folder of at least one run, as in --report.runs=runs/demo")
    published_figures(config.published)  # a name of no publication is refused before anything is read
    check_targets(config)
    published = [read_curve(Path(path)) for path in config.curves]
    first = Path(config.runs[0])
    html = Path(config.html) if config.html else (first.parent if first.is_file() else first) / "report.html"
    _check_outputs(config, html)
    inputs = read_inputs(config.runs)
    if not inputs.runs and not inputs.benches:
        raise UserError(f"{config.runs[0]}: holds no run that trained; nothing to report on")
    counts = {"{} run{}": len(inputs.runs), "{} result{} of bench": len(inputs.benches)}
    about = " and ".join(words.format(count, "s" * (count > 1)) for words, count in counts.items() if count)
    title = f"Report of {inputs.runs[0].name if about == '1 run' else about}"
    comparison = comparison_of(inputs, config)
    parts = chapters(inputs, config.published, comparison, published)
    contents: dict[Path, bytes] = {html: page(title, inputs, parts).encode()}
    images = {}
    for one in inputs.runs:
        curves = png(curves_figure(one.run))
        contents[one.run.folder / "curves.png"] = images[f"run-{one.place}-{file_name(one.name)}.png"] = curves
    if config.images:
        images |= {f"{drawing.name}.png": png(drawing.figure) for part in parts for drawing in part.drawings}
        contents |= {Path(config.images) / name: image for name, image in images.items()}
    if config.markdown:
        tables = [as_markdown(table) for part in parts for table in part.tables]
        contents[Path(config.markdown)] = "\n".join([f"# {title}\n", *tables]).encode()
    if config.csv:
        contents[Path(config.csv)] = as_csv(csv_rows(inputs, comparison)).encode()
    for path, content in contents.items():
        write_file(path, content)
    print(f"report of {about}: {html}")
    runs = [one.numbers | run_columns(comparison, one) for one in inputs.runs]
    return {"html": str(html), "runs": runs, "recipes": recipe_rows(comparison)}


def _check_outputs(config: ReportConfig, html: Path) -> None:
    """Raises UserError where a file to write is a record, an input, a folder, or the same as another."""
    seen = {Path(path).resolve(): "report.runs" for path in config.runs}
    seen |= {Path(path).resolve(): "report.curves" for path in config.curves}
    for option, name in (("html", str(html)), ("markdown", config.markdown), ("csv", config.csv)):
        if not name:
            continue
        path, what = Path(name), f"report.{option}={name}"
        if path.is_dir():
            raise UserError(f"{what}: cannot be written (is a folder); want the name of a file")
        if path.name in _RECORDS:
            raise UserError(f"{what}: is the name of a record; want another")
        other = seen.setdefault(path.resolve(), f"report.{option}")
        if other != f"report.{option}":
            raise UserError(f"{what}: is {other} too; want another file")
    if config.images and Path(config.images).exists() and not Path(config.images).is_dir():
        raise UserError(f"report.images={config.images}: is a file; want a folder")
