"""Takes tables of cells, gives them as HTML, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """What stands in a table: its text, what it is sorted by (None: its text; nothing sorts last), and how it looks."""

    text: str
    value: float | None = None
    mark: str = ""  # class in style.css: "bad", "strong", "changed", "long", "name" or "published"


@dataclass(frozen=True)
class Table:
    """A table. The first cell of a row names it."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    note: str = ""


def text(value: Any, mark: str = "") -> Cell:
    """A cell of text; None and the empty text are shown as nothing."""
    return Cell(NONE if value is None or value == "" else str(value), None, mark)


def number(value: float | None, mark: str = "") -> Cell:
    """A cell of a number in as many digits as one reads."""
    return Cell(number_text(value), value, mark)


def percent(value: float | None, mark: str = "") -> Cell:
    """A cell of a share in percent."""
    return Cell(percent_text(value), value, mark)


def dollars(value: float | None, mark: str = "") -> Cell:
    """A cell of an amount of money."""
    return Cell(dollars_text(value), value, mark)


def number_text(value: float | None) -> str:
    """A number in as many digits as one reads."""
    return NONE if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent_text(value: float | None) -> str:
    """A share in percent, with its sign."""
    return NONE if value is None else f"{value:.2f} %"


def dollars_text(value: float | None) -> str:
    """An amount of money: cents, and where it is less than ten of them two digits."""
    return NONE if value is None else f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"


def as_html(table: Table) -> str:
    """The table in a box that scrolls by itself; `data-value` is what a column is sorted by."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{_html_row(row)}</tr>" for row in table.rows)
    label = f' role="region" tabindex="0" aria-label="{escape(table.title)}"'  # so that keys can scroll it
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    content = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"{label}><table class="sortable">{content}</table></div>\n{note}\n'


def _html_row(row: tuple[Cell, ...]) -> str:
    parts = []
    for place, cell in enumerate(row):
        tag, scope = ("td", "") if place else ("th", ' scope="row"')
        mark = f' class="{cell.mark}"' if cell.mark else ""
        value = "" if cell.value is None else f' data-value="{cell.value!r}"'
        parts.append(f"<{tag}{scope}{mark}{value}>{escape(cell.text)}</{tag}>")
    return "".join(parts)


def as_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, under a heading."""
    lines = [f"## {_plain(table.title)}", ""]
    lines += [_markdown_row([_plain(column) for column in table.columns])]
    lines += [_markdown_row(["---", *("--:" if is_numeric(table, place) else "---" for place in range(1, len(table.columns)))])]
    lines += [_markdown_row([_plain(cell.text) for cell in row]) for row in table.rows]
    lines += ["", _plain(table.note)] if table.note else []
    return "\n".join(lines) + "\n"


def is_numeric(table: Table, place: int) -> bool:
    """Whether a column holds numbers."""
    return any(row[place].value is not None for row in table.rows)


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(words: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*\[\]<>|&~])", r"\\\1", " ".join(words.split()))


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Dictionaries as CSV, one a row, with a column for each key; None is an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_harmless(name) for name in columns])
    writer.writerows([_harmless(row.get(name)) for name in columns] for row in rows)
    return buffer.getvalue()


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets a quote before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
