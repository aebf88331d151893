"""Counts every file of a source: as an image, as part of a sample, or as left out, with its name."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deit_fast.data.convert.sources.file_names import NO_IMAGE, reason_to_leave_out

IN_A_CIRCLE = "a link to a folder that it lies in"


class LeftOut(NamedTuple):
    """A file that makes no sample, or `num_files` files of one kind under a pattern such as `*.txt` or `FOLDER/`."""

    name: str
    reason: str
    num_files: int = 1


@dataclass
class Accounts:
    """num_seen = samples + num_parts + num_not_chosen + the files of left_out, in every source.

    `num_seen`: files of the source, or rows if it has no files. `num_parts`: files that belong to a sample besides its image,
    such as its label. `num_not_chosen`: images that source.subset leaves out. `warnings`: lines for the user.
    """

    num_seen: int = 0
    num_parts: int = 0
    num_not_chosen: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def num_left_out(self) -> int:
        return sum(entry.num_files for entry in self.left_out)

    def facts(self, num_written: int, num_skipped: int) -> dict[str, Any]:
        """The accounts for the manifest, with the numbers of images written and of those that did not decode."""
        return {
            "seen": self.num_seen,
            "written": num_written,
            "parts": self.num_parts,
            "not_chosen": self.num_not_chosen,
            "skipped": num_skipped + self.num_left_out,
            "left_out": [entry._asdict() for entry in self.left_out],
        }


def add_up(all_accounts: Iterable[Accounts]) -> Accounts:
    """Adds up the accounts of the parts of a source."""
    total = Accounts()
    for accounts in all_accounts:
        total.num_seen += accounts.num_seen
        total.num_parts += accounts.num_parts
        total.num_not_chosen += accounts.num_not_chosen
        total.left_out += accounts.left_out
        total.warnings += accounts.warnings
    total.left_out = by_kind(total.left_out)
    return total


def left_out_for_names(paths: Iterable[str], prefix: str = "") -> list[LeftOut]:
    """Entries for files that reason_to_leave_out excludes; their names get the prefix."""
    return by_kind([LeftOut(prefix + path, reason_to_leave_out(path)) for path in paths])


def by_kind(left_out: Iterable[LeftOut]) -> list[LeftOut]:
    """Groups entries left out for their names by extension, since there may be millions."""
    kept: list[LeftOut] = []
    counts: dict[str, int] = {}
    single: dict[str, LeftOut] = {}
    for entry in left_out:
        if entry.reason != NO_IMAGE:
            kept.append(entry)
            continue
        pattern = entry.name if entry.num_files > 1 or entry.name.startswith("*.") else _pattern(entry.name)
        counts[pattern] = counts.get(pattern, 0) + entry.num_files
        single[pattern] = entry
    for pattern, count in sorted(counts.items()):
        kept.append(single[pattern] if count == 1 else LeftOut(pattern, NO_IMAGE, count))
    return kept


def _pattern(name: str) -> str:
    """The pattern of a file's extension, such as `*.txt`, or its name if it has none."""
    base = posixpath.basename(name)
    extension = posixpath.splitext(base)[1]
    return f"*{extension}" if extension else base
