"""Takes the folders of runs, gives one self-contained HTML page about them and a figure of curves in each folder."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from deit_fast.config import ReportConfig, UserError
from deit_fast.record.clock import KINDS
from deit_fast.record.run import write_bytes
from deit_fast.study.curves import COMPARISONS, PANELS, comparison_png, curves_png
from deit_fast.study.runs import Run, duration, load_run, run_numbers

STYLE = """
:root { color: #1b1f24; background: #fff; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 76rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 0 1rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
.scroll { overflow-x: auto; border: 1px solid #d5dae0; border-radius: 6px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; overflow-wrap: normal }
th, td { padding: .35rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #e8ebef }
tr:last-child > * { border-bottom: 0 }
thead th { background: #f4f6f8; white-space: nowrap } .runs td { white-space: nowrap }
tbody th { font-weight: 600; white-space: nowrap }
.unfinished { color: #9a4b00; font-weight: 600 }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .5rem; margin: 0 0 1rem }
.facts div { background: #f4f6f8; border-radius: 6px; padding: .4rem .7rem }
dt { font-size: .8rem; color: #57606a } dd { margin: 0; font-weight: 600; font-size: .9rem }
.facts .whole { grid-column: 1 / -1 }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: .5rem }
.curves img { width: 100%; height: auto }
details { margin: .5rem 0 } summary { cursor: pointer; font-weight: 600 }
code { font-size: .9em }
"""


def write_report(config: ReportConfig) -> dict[str, Any]:
    """Writes the page and each run's curves.png, prints where the page is, and gives its path and each run's numbers.

    Raises UserError where no run is named, a folder is not a run or has no events, or a file cannot be written. Nothing
    is written before every run was read.
    """
    if not config.runs:
        raise UserError("report.runs is empty: want the folder of at least one run, as in --report.runs=runs/demo")
    runs = [load_run(Path(folder)) for folder in config.runs]
    html = Path(config.html) if config.html else runs[0].folder / "report.html"
    numbers = [run_numbers(run) for run in runs]
    for run in runs:
        _write(run.folder / "curves.png", curves_png(run, list(PANELS)))
    _write(html, page(runs, numbers).encode())
    print(f"report of {len(runs)} run{'s' * (len(runs) > 1)}: {html}")
    return {"html": str(html), "runs": numbers}


def page(runs: list[Run], numbers: list[dict[str, Any]]) -> str:
    """The HTML page: the table of runs, the curves of several in common axes, and a section for each."""
    title = f"Report of {runs[0].name}" if len(runs) == 1 else f"Report of {len(runs)} runs"
    head = ["Run", "State", "Model", "Top-1 raw, best", "Top-1 EMA, best", "Epochs", "Images/s", "Wall time", "Cost"]
    head += [kind.replace("_", " ") for kind in KINDS] + ["Checkpoint"]
    rows = "".join(map(_row, numbers))
    table = f"<thead><tr>{''.join(f'<th>{escape(text)}</th>' for text in head)}</tr></thead><tbody>{rows}</tbody>"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n<div class="scroll"><table class="runs">{table}</table></div>\n'
        + (_comparison(runs) if len(runs) > 1 else "")
        + "".join(_section(run, of) for run, of in zip(runs, numbers, strict=True))
        + "</body>\n</html>\n"
    )


def _row(numbers: dict[str, Any]) -> str:
    cells = [_state(numbers), escape(str(numbers["model"]))]
    cells += [_percent(numbers["top1_model"]), _percent(numbers["top1_ema"])]
    cells += [f"{numbers['epochs_done']} of {numbers['epochs']}", _number(numbers["images_per_second"])]
    cells += [
        duration(numbers["wall_seconds"]),
        _dollars(numbers["dollars"]),
        *(duration(numbers["seconds"][kind]) for kind in KINDS),
    ]
    cells += [escape(numbers["checkpoint"] or "–")]
    return f"<tr><th>{escape(numbers['name'])}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _comparison(runs: list[Run]) -> str:
    images = "".join(_image(panel, "all runs", comparison_png(runs, panel)) for panel in COMPARISONS)
    return f'<h2>All runs</h2>\n<div class="curves">{images}</div>\n'


def _section(run: Run, numbers: dict[str, Any]) -> str:
    """All about one run: key figures, curves, and what it was asked to do on which machine."""
    facts = {
        "State": _state(numbers),
        "Model": escape(str(numbers["model"])),
        "Parameters": _number(numbers["num_parameters"]),
        "Top-1 raw, best": _best(numbers, "model"),
        "Top-1 EMA, best": _best(numbers, "ema"),
        "Train top-1, last": _percent(numbers["train_top1"]),
        "Images/s, median epoch": _number(numbers["images_per_second"]),
        "Wall time" if numbers["finished"] else "Wall time of its epochs": duration(numbers["wall_seconds"]),
    }
    if numbers["dollars"] is not None:
        facts["Cost"] = f"{_dollars(numbers['dollars'])} at ${run.config['run.dollars_per_hour']:,.2f} an hour"
    checkpoint = f"<code>{escape(numbers['checkpoint'] or '–')}</code>"
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    cards += f'<div class="whole"><dt>Checkpoint</dt><dd>{checkpoint}</dd></div>'
    images = "".join(_image(panel, run.name, curves_png(run, [panel])) for panel in PANELS)
    record = run.record
    where = {
        "command": " ".join(map(str, record.get("command") or [])),
        "commit": record.get("git_commit") or "not known",
        "training": _listed(run.start, "device", "amp", "world_size", "global_batch_size", "steps_per_epoch", "lr"),
        "hardware": _hardware(record.get("hardware") or {}),
        "versions": ", ".join(f"{name} {found or 'none'}" for name, found in (record.get("versions") or {}).items()),
        "folder": str(run.folder),
    }
    for number, session in enumerate(record["sessions"], start=1):
        changed = ", ".join(f"{name}: {value}" for name, value in session.get("changes", {}).items())
        where[f"session {number}"] = f"{session.get('started')} on {session.get('host')}" + (changed and f"; {changed}")
    return (
        f'<h2>{escape(run.name)}</h2>\n<dl class="facts">{cards}</dl>\n<div class="curves">{images}</div>\n'
        f"{_details('Command, hardware, versions', where)}{_details('Configuration', run.config)}"
    )


def _image(panel: str, of: str, png: bytes) -> str:
    content = base64.b64encode(png).decode()
    return f'<img alt="{escape(panel)} of {escape(of)}" src="data:image/png;base64,{content}">'


def _details(title: str, values: dict[str, Any]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    table = f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
    return f"<details><summary>{title}</summary>{table}</details>\n"


def _state(numbers: dict[str, Any]) -> str:
    return "finished" if numbers["finished"] else '<span class="unfinished">unfinished</span>'


def _best(numbers: dict[str, Any], weights: str) -> str:
    epoch = numbers[f"top1_{weights}_epoch"]
    return _percent(numbers[f"top1_{weights}"]) + ("" if epoch is None else f" after epoch {epoch + 1}")


def _listed(values: dict[str, Any], *names: str) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names if name in values)


def _hardware(hardware: dict[str, Any]) -> str:
    parts = [f"{hardware.get('cpu')}, {hardware.get('allowed_cores')} of {hardware.get('logical_cores')} cores"]
    parts += [f"{(hardware.get('memory_bytes') or 0) / 2**30:.0f} GiB of memory"]
    parts += [f"{gpu['name']} with {gpu['memory_bytes'] / 2**30:.0f} GiB" for gpu in hardware.get("gpus") or []]
    return ", ".join(parts)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _dollars(value: float | None) -> str:
    return "–" if value is None else f"${value:,.2f}"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); want a folder that you may write to") from None
