"""Tables of the report: their cells, how numbers are written, and their forms as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """What stands in a table: its text, the number by which it is sorted (None: by its text), and how it looks."""

    text: str
    value: float | None = None
    mark: str = ""  # class in style.css: "bad", "strong", "changed", "long", "name" or "published"

    @property
    def sort_key(self) -> tuple[Any, ...] | None:
        """Numbers stand before text; text is compared without case, numbers in it by value. None: always last."""
        if self.text == NONE:
            return None
        if self.value is not None:
            return 0, self.value
        words = re.split(r"([0-9]{1,18})", self.text.casefold())  # every second one is a number
        return 1, *(int(word) if place % 2 else word for place, word in enumerate(words))


class Column(NamedTuple):
    """A column: its head, how its values are written, and how its cells look."""

    head: str
    form: Callable[[Any], str] = str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table. The first cell of a row names it."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    note: str = ""

    def sort_places(self) -> list[tuple[int | None, ...]]:
        """For each row, the places of its cells when their columns are sorted: equal ones share theirs, None is last."""
        columns = []
        for cells in zip(*self.rows, strict=True):
            keys = sorted({key for cell in cells if (key := cell.sort_key)})
            places = {key: place for place, key in enumerate(keys)}
            columns.append([places.get(cell.sort_key or ()) for cell in cells])
        return list(zip(*columns, strict=True))


def make_table(title: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], note: str = "") -> Table | None:
    """A table of rows of values, some of which may be cells already; None where there are no rows."""
    cells = [
        tuple(
            value if isinstance(value, Cell) else cell(value, *column[1:]) for value, column in zip(row, columns, strict=True)
        )
        for row in rows
    ]
    return Table(title, tuple(column.head for column in columns), cells, note) if cells else None


def cell(value: Any, form: Callable[[Any], str] = str, mark: str = "") -> Cell:
    """A cell of a value, which is sorted as a number where it is one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(shown(value, form), value if is_number else None, mark)


def shown(value: Any, form: Callable[[Any], str] = str) -> str:
    """A value in its form, or a dash where there is none."""
    return NONE if value is None or value == "" else form(value)


def number(value: float) -> str:
    """A number with as many digits as one reads."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """A value that is in percent already."""
    return f"{value:.2f} %"


def share(value: float) -> str:
    """A share, 0 to 1, in percent."""
    return f"{100 * value:.1f} %"


def difference(value: float) -> str:
    """A relative difference in percent, with its sign: 0.1 is +10 %."""
    return f"{100 * value:+.1f} %"


def as_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, under a heading; columns of numbers are aligned to the right."""
    are_numbers = [any(cell.value is not None for cell in cells) for cells in zip(*table.rows, strict=True)]
    rules = ["---", *("--:" if is_number else "---" for is_number in are_numbers[1:])]
    rows = [map(_plain, table.columns), rules, *(map(_plain, (cell.text for cell in row)) for row in table.rows)]
    lines = [f"## {_plain(table.title)}", "", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines + (["", _plain(table.note)] if table.note else [])) + "\n"


def _plain(words: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*\[\]<>|&~])", r"\\\1", " ".join(words.split()))


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Dictionaries as CSV, one a row, with a column for each key; None is an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(_harmless, columns))
    writer.writerows([_harmless(row.get(name)) for name in columns] for row in rows)
    return buffer.getvalue()


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets a quote before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
