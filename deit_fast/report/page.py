"""Takes tables, figures and runs, gives one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from deit_fast.config import UserError
from deit_fast.record.runs import Run, duration
from deit_fast.report.contents import bench_facts
from deit_fast.report.curves import PANELS, curves_figure
from deit_fast.report.inputs import Inputs, ReportedRun
from deit_fast.report.render import Drawing, data_uri
from deit_fast.report.tables import NONE, Table, as_html, dollars_text, number_text, percent_text

_MAX_OPEN = 3  # sections of single runs that stand open; where there are more they are opened by a click


@dataclass(frozen=True)
class Chapter:
    """A part of the page: figures, then tables."""

    title: str
    drawings: Sequence[Drawing]
    tables: Sequence[Table]
    remark: str = ""


def page(title: str, inputs: Inputs, chapters: Sequence[Chapter]) -> str:
    """The page: its chapters, results of bench, and a section for each run. All text of the inputs is escaped."""
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("style.css", "sort.js"))
    # the browser itself keeps the page from loading or running anything but what stands here
    policy = f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}"
    sections = "".join(_section(one, len(inputs.runs) <= _MAX_OPEN) for one in inputs.runs)
    benches = "".join(_details(f"Bench: {bench.path}", bench_facts(bench)) for bench in inputs.benches if not bench.rows)
    remarks = "".join(f"<p>Sweep {escape(line)}.</p>\n" for line in inputs.sweeps)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{remarks}"
        + "".join(map(_chapter, chapters))
        + (f"<h2>Results of bench</h2>\n{benches}" if benches else "")
        + ("<h2>Single runs</h2>\n" if len(inputs.runs) > 1 else "")
        + f"{sections}<script>{script}</script>\n</body>\n</html>\n"
    )


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _chapter(chapter: Chapter) -> str:
    parts = [f"<h2>{escape(chapter.title)}</h2>\n"]
    if chapter.remark:
        parts.append(f"<p>{escape(chapter.remark)}</p>\n")
    if chapter.drawings:
        parts.append(f'<div class="figures">{"".join(map(_figure, chapter.drawings))}</div>\n')
    for table in chapter.tables:
        if table.title != chapter.title:
            parts.append(f"<h3>{escape(table.title)}</h3>\n")
        parts.append(as_html(table))
    return "".join(parts)


def _figure(drawing: Drawing) -> str:
    caption = f"<figcaption>{escape(drawing.caption)}</figcaption>" if drawing.caption else ""
    return f'<figure><img alt="{escape(drawing.title)}" src="{data_uri(drawing.figure)}">{caption}</figure>\n'


def _section(one: ReportedRun, is_open: bool) -> str:
    """All about one run: key figures, curves, and what it was asked to do on which machine."""
    run, numbers = one.run, one.numbers
    facts = {
        "State": numbers["state"],
        "Model": numbers["model"],
        "Parameters": number_text(numbers["num_parameters"]),
        "Top-1 raw, best": _best(numbers, "model"),
        "Top-1 EMA, best": _best(numbers, "ema"),
        "Train top-1, last": percent_text(numbers["train_top1"]),
        "Images/s, median epoch": number_text(numbers["images_per_second"]),
        "Wall time" if numbers["finished"] else "Wall time of its epochs": duration(numbers["wall_seconds"]),
    }
    if numbers["predicted_seconds"] is not None:
        facts["Predicted"] = f"{duration(numbers['predicted_seconds'])}, actual {100 * (numbers['off'] or 0):+.1f} %"
    if numbers["dollars"] is not None:
        facts["Cost"] = f"{dollars_text(numbers['dollars'])} at ${run.config['run.dollars_per_hour']:,.2f} an hour"
    cards = "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items())
    cards += f'<div class="whole"><dt>Checkpoint</dt><dd><code>{escape(numbers["checkpoint"] or NONE)}</code></dd></div>'
    drawings = [Drawing("", f"{panel} of {one.name}", curves_figure(run, [panel])) for panel in PANELS]
    content = (
        f'<dl class="facts">{cards}</dl>\n<div class="figures">{"".join(map(_figure, drawings))}</div>\n'
        f"{_details('Command, hardware, versions', _where(run))}{_details('Configuration', run.config)}"
    )
    heading = f"<h2>{escape(one.label)}</h2>"
    return f"<details{' open' if is_open else ''}><summary>{heading}</summary>\n{content}</details>\n"


def _where(run: Run) -> dict[str, str]:
    """By which command, on which machine and with what the run was made."""
    try:
        return _read_where(run)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.folder / 'run.json'}: has not the entries of a run ({type(error).__name__}: {error})") from error


def _read_where(run: Run) -> dict[str, str]:
    record = run.record
    where = {
        "command": " ".join(map(str, record.get("command") or [])),
        "commit": record.get("git_commit") or "not known",
        "training": _listed(run.start, "device", "amp", "world_size", "global_batch_size", "steps_per_epoch", "lr"),
        "hardware": hardware_text(record.get("hardware") or {}),
        "versions": ", ".join(f"{name} {found or 'none'}" for name, found in (record.get("versions") or {}).items()),
        "folder": str(run.folder),
    }
    for place, session in enumerate(record["sessions"], start=1):
        changed = ", ".join(f"{name}: {value}" for name, value in session.get("changes", {}).items())
        where[f"session {place}"] = f"{session.get('started')} on {session.get('host')}" + (changed and f"; {changed}")
    return where


def _details(title: str, values: dict[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    table = f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
    return f"<details><summary>{escape(title)}</summary>{table}</details>\n"


def _best(numbers: dict[str, Any], weights: str) -> str:
    epoch = numbers[f"top1_{weights}_epoch"]
    return percent_text(numbers[f"top1_{weights}"]) + ("" if epoch is None else f" after epoch {epoch + 1}")


def _listed(values: dict[str, Any], *names: str) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names if name in values)


def hardware_text(hardware: dict[str, Any]) -> str:
    """A machine in words."""
    parts = [f"{hardware.get('cpu')}, {hardware.get('allowed_cores')} of {hardware.get('logical_cores')} cores"]
    parts += [f"{(hardware.get('memory_bytes') or 0) / 2**30:.0f} GiB of memory"]
    parts += [f"{gpu['name']} with {gpu['memory_bytes'] / 2**30:.0f} GiB" for gpu in hardware.get("gpus") or []]
    return ", ".join(parts)
