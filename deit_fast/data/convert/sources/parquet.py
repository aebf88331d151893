"""Reads Parquet shards in Hugging Face's layout as a source: encoded images and labels in two columns."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import Accounts
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.sources.class_names import classes_and_labels, read_class_names
from deit_fast.data.convert.sources.parquet_shard import ShardFacts, one_line, open_shard, shard_facts
from deit_fast.data.convert.sources.shards import PARQUET_ENDINGS, shards_of_split

ROWS_AT_ONCE = 32
_REMEDY_FOR_PATHS = "write the shards with the images in them (in Hugging Face datasets: embed_external_files=True)"


class Parquet(Source):
    """One file, the shards of a pattern, or those in a folder whose names tell this split; sorted by name.

    The image column holds encoded images, as binary or as Hugging Face's struct of bytes and path; the label column holds
    numbers or strings. If not named, parquet_shard finds them. Class names come from `classes`, else from Hugging Face's
    description in the files; without both, numbers are their own names and strings are sorted.

    Opening reads only the label column. Each process opens the files itself when it reads, and keeps the rows that it read
    last: if it reads images in order, it reads each row group once, in slices of ROWS_AT_ONCE rows.

    Raises UserError if there are no shards, one is damaged or has other columns, a label is null or
    negative, or there are fewer class names than labels.
    """

    def __init__(self, path: str, split: str, classes: str = "", image_column: str = "", label_column: str = "") -> None:
        self.location = path
        shards = shards_of_split(path, PARQUET_ENDINGS, split)
        self._shard_names, self._files = list(shards.files), list(shards.files.values())
        facts = [shard_facts(file, image_column, label_column) for file in self._files]
        self._image_columns = [fact.image_column for fact in facts]
        self.classes, self.labels = _classes_and_labels(path, facts, classes)
        counts = [rows for fact in facts for rows in fact.row_group_rows]
        self._group_starts = np.cumsum([0, *counts], dtype=np.int64)[:-1]
        self._group_file = np.repeat(np.arange(len(facts)), [len(fact.row_group_rows) for fact in facts])
        self._first_group = np.searchsorted(self._group_file, np.arange(len(facts)))
        self._accounts = Accounts(len(self.labels) + shards.num_left_out, left_out=shards.left_out)
        self._reader: _Reader | None = None

    def name(self, sample: int) -> str:
        """SHARD/ROW."""
        group = self._group(sample)
        file = self._group_file[group]
        row = sample - self._group_starts[self._first_group[file]]
        return f"{self._shard_names[file]}/{row}"

    def read(self, sample: int) -> bytes:
        group = self._group(sample)
        row = sample - int(self._group_starts[group])
        reader = self._reader
        try:
            if reader is None or (reader.process, reader.group) != (os.getpid(), group) or row < reader.first_row:
                file = int(self._group_file[group])
                in_file = group - int(self._first_group[file])
                reader = self._reader = _Reader(self._files[file], self._image_columns[file], group, in_file)
            value = reader.value(row)
        except (pyarrow.ArrowException, OSError, StopIteration) as error:
            self._reader = None
            reason = one_line(error) or "the file ends before it"
            raise OSError(reason) from error
        if isinstance(value, dict):
            path, value = value.get("path"), value.get("bytes")
            if value is None and path is not None:
                raise OSError(f"has no bytes, but the path {path!r}; {_REMEDY_FOR_PATHS}")
        if value is None:
            raise OSError("is null")
        return bytes(value)

    def block_starts(self) -> NDArray[np.int64]:
        """First sample of each row group."""
        return np.unique(self._group_starts[self._group_starts < self.num_samples])

    def accounts(self) -> Accounts:
        """Counts rows, and files that are no shards."""
        return self._accounts

    def close(self) -> None:
        self._reader = None

    def _group(self, sample: int) -> int:
        return int(np.searchsorted(self._group_starts, sample, side="right")) - 1


class _Reader:
    """Reads the rows of one row group in order, in the process that made it."""

    def __init__(self, path: Path, column: str, group: int, group_of_file: int) -> None:
        self.process, self.group, self.first_row = os.getpid(), group, 0
        # a buffered stream: otherwise the row group's whole column is loaded into memory at once
        self._file = open_shard(path, buffer_size=1 << 20)
        self._batches: Iterator[Any] = self._file.iter_batches(
            ROWS_AT_ONCE, row_groups=[group_of_file], columns=[column], use_threads=False
        )
        self._rows: Any = None

    def value(self, row: int) -> Any:
        """The value of a row from first_row on. Raises StopIteration beyond the last."""
        while self._rows is None or row >= self.first_row + len(self._rows):
            self.first_row += 0 if self._rows is None else len(self._rows)
            self._rows = next(self._batches).column(0)
        return self._rows[row - self.first_row].as_py()


def _classes_and_labels(path: str, facts: list[ShardFacts], classes: str) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Class names, and labels as positions in them; looks up labels that are strings."""
    names, origin = (read_class_names(Path(classes)), classes) if classes else _described_names(facts)
    for fact in facts:
        if (fact.image_column, fact.label_column) != (facts[0].image_column, facts[0].label_column):
            raise UserError(f"{fact.path}: other columns than in {facts[0].path}: want the same in all shards")
    labels = [(fact.path, fact.labels) for fact in facts]
    if not any(len(of_shard) for _, of_shard in labels):
        raise UserError(f"{path}: {len(facts)} shards without rows")
    return classes_and_labels(path, labels, names, origin)


def _described_names(facts: list[ShardFacts]) -> tuple[tuple[str, ...] | None, str]:
    """Class names from Hugging Face's description of the label column, if there is one, and their origin."""
    described: list[tuple[str, ...] | None] = []
    for fact in facts:
        try:
            names = json.loads(fact.metadata)["info"]["features"][fact.label_column]["names"]
            described.append(tuple(str(name) for name in names))
        except (ValueError, KeyError, TypeError):
            described.append(None)
    for fact, names in zip(facts, described, strict=True):
        if names != described[0]:
            raise UserError(f"{fact.path}: other class names than in {facts[0].path}: want the same in all shards")
    return described[0], str(facts[0].path)
