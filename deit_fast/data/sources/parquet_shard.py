"""Takes a Parquet file, gives what must be known of it before images are read: columns, row groups, labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from deit_fast.config import UserError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = ("label", "labels", "cls", "fine_label")
REMEDY_FOR_PATHS = "write the shards with the images in them (in Hugging Face datasets: embed_external_files=True)"


@dataclass(frozen=True)
class ShardFacts:
    """`labels` is int64 or objects that are strings, `metadata` Hugging Face's description as JSON, or empty."""

    path: Path
    image_column: str
    label_column: str
    row_group_rows: tuple[int, ...]
    labels: NDArray[Any]
    metadata: bytes


def open_shard(path: Path, buffer_size: int = 0) -> Any:
    """A pyarrow.parquet.ParquetFile that starts no threads, so that a process may fork while it has one."""
    return pyarrow.parquet.ParquetFile(path, buffer_size=buffer_size, pre_buffer=False)


def shard_facts(path: Path) -> ShardFacts:
    """Raises UserError with file and row where the file is damaged, lacks a column, or has a null or a negative label."""
    try:
        with open_shard(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            image_column = _column(path, schema, IMAGE_COLUMNS, _holds_images, "images as binary or struct of bytes and path")
            label_column = _column(path, schema, LABEL_COLUMNS, _holds_labels, "labels as integers or strings")
            groups = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
            labels = _checked_labels(path, file.read([label_column], use_threads=False).column(0))
            _refuse_null_images(path, file, image_column)
            described = (schema.metadata or {}).get(b"huggingface", b"")
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged: {one_line(error)}; fetch it again") from error
    return ShardFacts(path, image_column, label_column, groups, labels, described)


def _column(path: Path, schema: Any, names: tuple[str, ...], is_fit: Any, wanted: str) -> str:
    """The first of these names that is a column of the type wanted."""
    for name in names:
        if name in schema.names and is_fit(schema.field(name).type):
            return name
    present = ", ".join(f"{field.name} ({str(field.type)[:60]})" for field in schema)
    raise UserError(f"{path}: has the columns {present}; want one named {', '.join(names[:-1])} or {names[-1]} with {wanted}")


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


def _refuse_null_images(path: Path, file: Any, column: str) -> None:
    """Raises UserError with the first null image, where the statistics of the file count any; images are read only then."""
    first_row = 0
    for group in range(file.metadata.num_row_groups):
        facts = file.metadata.row_group(group)
        chunks = [facts.column(number) for number in range(facts.num_columns)]
        if any(
            chunk.path_in_schema in (column, f"{column}.bytes")
            and chunk.statistics is not None
            and chunk.statistics.has_null_count
            and chunk.statistics.null_count
            for chunk in chunks
        ):
            row = first_row
            for batch in file.iter_batches(32, row_groups=[group], columns=[column], use_threads=False):
                for value in batch.column(0).to_pylist():
                    external = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
                    if external is not None:
                        raise UserError(f"{path}: row {row} has no bytes, but the path {external!r}; {REMEDY_FOR_PATHS}")
                    if value is None or (isinstance(value, dict) and value.get("bytes") is None):
                        raise UserError(f"{path}: row {row} has no image: want one in each row")
                    row += 1
        first_row += facts.num_rows


def one_line(error: BaseException) -> str:
    """What pyarrow says, which may be over several lines."""
    return " ".join(str(error).split())
