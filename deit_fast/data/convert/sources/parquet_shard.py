"""Reads the facts about a Parquet file that are needed before its images: columns, row groups, labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from deit_fast.config import UserError

# the first of these names that fits is taken, else the only column that fits
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "cls", "fine_label", "class", "class_id", "target")


@dataclass(frozen=True)
class ShardFacts:
    """`labels`: int64, or strings as objects; `metadata`: Hugging Face's description as JSON, or empty."""

    path: Path
    image_column: str
    label_column: str
    row_group_rows: tuple[int, ...]
    labels: NDArray[Any]
    metadata: bytes


def open_shard(path: Path, buffer_size: int = 0) -> Any:
    """A pyarrow.parquet.ParquetFile that starts no threads, so that a process may fork while it is open."""
    return pyarrow.parquet.ParquetFile(path, buffer_size=buffer_size, pre_buffer=False)


def shard_facts(path: Path, image_column: str = "", label_column: str = "") -> ShardFacts:
    """Facts about a shard with these columns; "": found by IMAGE_COLUMNS and LABEL_COLUMNS, or by their types.

    Raises UserError with file and row if the file is damaged, lacks a column, or has a label that is null or negative.
    """
    try:
        with open_shard(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            image_column = _column(path, schema, "image", image_column, IMAGE_COLUMNS)
            label_column = _column(path, schema, "label", label_column, LABEL_COLUMNS)
            groups = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
            labels = _checked_labels(path, file.read([label_column], use_threads=False).column(0))
            described = (schema.metadata or {}).get(b"huggingface", b"")
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged: {one_line(error)}; fetch it again") from error
    return ShardFacts(path, image_column, label_column, groups, labels, described)


def _column(path: Path, schema: Any, what: str, given: str, names: tuple[str, ...]) -> str:
    """The column of images or labels: the one given, else the first of these names that fits, else the only one that fits."""
    holds, types = (_holds_images, "binary or struct of bytes") if what == "image" else (_holds_labels, "integers or strings")
    present = ", ".join(f"{field.name} ({str(field.type)[:60]})" for field in schema)
    fitting = [field.name for field in schema if holds(field.type)]
    for name in (given,) if given else names:
        if fitting.count(name) == 1:
            return name
    if given:
        raise UserError(f"{path}: source.{what}_column={given}: want a column with {types}; there are {present}")
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise UserError(f"{path}: has the columns {present}; want one with {what}s, which are {types}")
    raise UserError(
        f"{path}: the columns {', '.join(fitting)} may all hold {what}s; name the right one with --source.{what}_column="
    )


def _holds_images(kind: Any) -> bool:
    types = pyarrow.types
    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _holds_labels(kind: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _holds_labels(kind.value_type)
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _checked_labels(path: Path, column: Any) -> NDArray[Any]:
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = np.flatnonzero(column.is_null().to_numpy())[0]
        raise UserError(f"{path}: row {row} has no label: want a number or a string in each row")
    if not pyarrow.types.is_integer(column.type):
        return np.array(column.to_pylist(), dtype=object)
    labels = column.to_numpy().astype(np.int64)
    wrong = np.flatnonzero((labels < 0) | (labels >= 2**31))
    if len(wrong):
        raise UserError(
            f"{path}: row {wrong[0]} has the label {labels[wrong[0]]}: want 0 or more; sets without labels, as test "
            "splits often are, cannot be converted"
        )
    return labels


def one_line(error: BaseException) -> str:
    """pyarrow's message, which may have several lines, as one."""
    return " ".join(str(error).split())
