"""Writes the classes of each image: to the screen, to a CSV file, and into the command's result."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from dataclasses import dataclass, field
from typing import Any

from deit_fast.config import UserError
from deit_fast.data.format.files import printable
from deit_fast.record.run import replacing


@dataclass(frozen=True)
class Classification:
    """The likeliest classes of an image and their probabilities; or `problem`, why there are none.

    repaired: what was damaged in an image that has classes all the same.
    """

    name: str
    classes: list[str] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    problem: str = ""
    repaired: str = ""


class Results:
    """Takes the classes of one image after another; used in a `with` block.

    top: classes of an image. csv_path: file to write, which gets its name when the block ends without an error; empty: none.
    is_kept: whether `entries` keeps them. Without either, lines on standard output show them.
    """

    def __init__(self, top: int, csv_path: str, *, is_kept: bool) -> None:
        self._top, self._csv_path, self._is_kept = top, csv_path, is_kept
        self._is_shown = not csv_path and not is_kept
        self._exit = contextlib.ExitStack()
        self._rows: Any = None  # a csv.writer
        self.entries: list[dict[str, Any]] = []
        self.problems: list[Classification] = []
        self.num_classified = 0

    def __enter__(self) -> Results:
        if self._csv_path:
            try:
                file = self._exit.enter_context(replacing(self._csv_path))
            except OSError as error:
                raise UserError(f"predict.csv={self._csv_path}: cannot be written: {error.strerror}") from error
            text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
            self._exit.callback(text.detach)  # which leaves the file open, to be synchronised and named
            self._rows = csv.writer(text)
            pairs = [(f"class_{rank}", f"probability_{rank}") for rank in range(1, self._top + 1)]
            self._rows.writerow(["image", *(name for pair in pairs for name in pair), "problem", "repaired"])
        return self

    def __exit__(self, *error: Any) -> None:
        self._exit.__exit__(*error)

    def add(self, found: Classification) -> None:
        """Adds an image. One without classes, or a repaired one, is named on stderr too."""
        if found.problem:
            self.problems.append(found)
            print(f"{printable(found.name)}: not classified: {found.problem}", file=sys.stderr)
        else:
            self.num_classified += 1
        if found.repaired:
            print(f"{printable(found.name)}: damaged: {found.repaired}", file=sys.stderr)
        pairs = list(zip(found.classes, found.probabilities, strict=True))
        if self._is_kept:
            notes = {name: getattr(found, name) for name in ("problem", "repaired") if getattr(found, name)}
            self.entries.append({"image": found.name, "classes": found.classes, "probabilities": found.probabilities, **notes})
        if self._rows is not None:
            cells = [cell for name, share in pairs for cell in (name, f"{share:.6f}")]
            cells += [""] * (2 * self._top - len(cells))
            self._rows.writerow([found.name, *cells, found.problem, found.repaired])
        if self._is_shown and not found.problem:
            print(f"{printable(found.name)}: " + ", ".join(f"{printable(name)} {share:.2%}" for name, share in pairs))
