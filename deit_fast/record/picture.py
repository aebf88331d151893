"""Draws figures as PNG, and checks the names of files that commands are to write."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from deit_fast.config import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(figure: Figure, machine: str = "") -> bytes:
    """The figure as PNG, the same bytes whenever it is drawn. machine: named in small letters below all else."""
    if machine:  # as a label, for which the layout keeps room; a text would stand on a legend
        figure.supxlabel(machine, x=0.995, ha="right", fontsize=7, color="gray", parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def file_to_write(option: str, name: str) -> Path:
    """The file that an option names. Raises UserError, with the option, where it cannot be written."""
    path = Path(name)
    if not path.parent.is_dir() or path.is_dir():
        raise UserError(f"{option}={name}: want the name of a file in an existing folder")
    return path


def picture_to_write(option: str, name: str, out: str) -> Path | None:
    """The PNG that an option names, or one beside the file of --out; None without either. Raises UserError as above."""
    name = name or (str(Path(out).with_suffix(".png")) if out else "")
    return file_to_write(option, name) if name else None
