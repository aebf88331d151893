"""Opens a beton: checks its structure and reads the metadata of its images, without decoding any."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ffcv.fields import BytesField, IntField, NDArrayField, RGBImageField
from ffcv.types import (
    ALLOC_TABLE_TYPE,
    CURRENT_VERSION,
    TYPE_ID_HANDLER,
    FieldDescType,
    HeaderType,
    get_handlers,
    get_metadata_type,
)
from ffcv.utils import decode_null_terminated_string, is_power_of_2
from numpy.typing import NDArray

from deit_fast.config import UserError, as_now
from deit_fast.data.format.shard import Shard, read_shard

MANIFEST_FORMAT = 2
_MANIFEST_FORMATS = (1, 2)  # readable ones; 1 has no digests and says nothing of single images
JPEG_MODE, RAW_MODE = 0, 1  # FFCV's IMAGE_MODES, as stored in the file


@dataclass(frozen=True, eq=False)
class Beton:
    """A beton with a valid structure. Arrays have one element for each sample, in the order of the file's metadata.

    `classes`: names from the manifest, None without one. `modes`: JPEG_MODE or RAW_MODE. `offsets` and `sizes`: those of the
    stored images in the file, in bytes. `shard`: which shard of a conversion it is, None if it is none.
    """

    path: Path
    field_names: tuple[str, ...]
    num_samples: int
    classes: tuple[str, ...] | None
    labels: NDArray[np.int64]
    widths: NDArray[np.uint16]
    heights: NDArray[np.uint16]
    modes: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    shard: Shard | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    @property
    def num_classes(self) -> int:
        """Number of class names; without a manifest, the largest label + 1."""
        return len(self.classes) if self.classes is not None else int(self.labels.max()) + 1


def manifest_path(path: Path) -> Path:
    """Path of a beton's manifest, beside it: PATH.json."""
    return path.with_name(f"{path.name}.json")


def open_beton(path: str | Path) -> Beton:
    """Reads header, metadata, allocation table and manifest (if there is one) of a beton, ours or stock FFCV's.

    Raises UserError, naming what is wrong, if the file is missing, is no beton, is truncated, lacks an image field named
    `image` or an integer field named `label`, contradicts itself, or disagrees with its manifest. Checks each size stated in
    the file against the length of the file before use. Does not decode the stored images.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; want a beton, made by `deit-fast write`")
    if not path.is_file():
        raise UserError(f"{path}: is not a file; want a beton, made by `deit-fast write`")
    try:
        with path.open("rb") as file:
            metadata, table = _read_structure(path, file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    images, labels = metadata["image"], metadata["label"]
    sizes = _stored_sizes(path, images, table)
    _check_images(path, images, labels, sizes)
    manifest = read_manifest(path)
    return Beton(
        path=path,
        field_names=tuple(metadata),
        num_samples=len(labels),
        classes=_classes(path, manifest, labels),
        labels=labels.astype(np.int64),
        widths=images["width"].astype(np.uint16),
        heights=images["height"].astype(np.uint16),
        modes=images["mode"].astype(np.uint8),
        offsets=images["data_ptr"].astype(np.uint64),
        sizes=sizes,
        shard=_shard(path, manifest, len(labels)),
    )


def _not_a_beton(path: Path, what: str) -> UserError:
    return UserError(f"{path}: not a beton: {what}")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: truncated or damaged beton: {what}; convert it again")


def _read_array(file: BinaryIO, dtype: np.dtype[Any], count: int, offset: int) -> NDArray[Any]:
    file.seek(offset)
    return np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype, count=count)


def _read_structure(path: Path, file: BinaryIO) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Metadata of the fields `image` and `label`, and the allocation table; checks that its regions lie in the file."""
    file_bytes = path.stat().st_size
    if file_bytes == 0:
        raise _not_a_beton(path, "the file is empty")
    if file_bytes < HeaderType.itemsize:
        raise _not_a_beton(path, f"{file_bytes} bytes are too short for one")
    header = _read_array(file, HeaderType, 1, 0)[0]
    version, num_fields, num_samples = (int(header[name]) for name in ("version", "num_fields", "num_samples"))
    table_start = int(header["alloc_table_ptr"])
    if version != CURRENT_VERSION:
        raise _not_a_beton(path, f"its format version is {version}, want {CURRENT_VERSION}")
    if num_fields == 0 or not is_power_of_2(int(header["page_size"])):
        raise _not_a_beton(path, f"its header has {num_fields} fields and a page size of {int(header['page_size'])}")

    metadata_start = HeaderType.itemsize + num_fields * FieldDescType.itemsize
    if metadata_start > file_bytes:
        raise _damaged(path, f"{file_bytes} bytes, too few for the descriptors of {num_fields} fields")
    names, metadata_type, num_stored = _read_fields(path, _read_array(file, FieldDescType, num_fields, HeaderType.itemsize))
    if num_samples == 0:
        raise UserError(f"{path}: has no images")
    metadata_end = metadata_start + num_samples * metadata_type.itemsize
    if table_start == 0:
        raise _damaged(path, "it has no allocation table, its conversion did not come to its end")
    if not metadata_end <= table_start <= file_bytes:
        raise _damaged(path, f"{file_bytes} bytes are too few for {num_samples} samples and a table at {table_start}")
    num_rows, rest = divmod(file_bytes - table_start, ALLOC_TABLE_TYPE.itemsize)
    if rest or num_rows != num_samples * num_stored:
        raise _damaged(path, f"its allocation table has {num_rows} rows and {rest} bytes for {num_samples} samples")

    table = _read_array(file, ALLOC_TABLE_TYPE, num_rows, table_start)
    within = (table["ptr"] >= metadata_end) & (table["ptr"] <= table_start)
    within &= table["size"] <= table_start - np.minimum(table["ptr"], table_start)  # a sum could overflow
    if not within.all():
        row = int(np.argmin(within))
        of_sample = f", of sample {row}," if num_stored == 1 else ""
        raise _damaged(path, f"row {row} of its allocation table{of_sample} lies outside the data")
    metadata = _read_array(file, metadata_type, num_samples, metadata_start)
    return {name: metadata[column] for name, column in zip(names, metadata_type.names or (), strict=True)}, table


def _read_fields(path: Path, descriptors: NDArray[Any]) -> tuple[list[str], np.dtype[Any], int]:
    """Names of the fields, type of a row of metadata, and number of rows that a sample has in the allocation table.

    Checks that there are images and labels.
    """
    unknown = [int(type_id) for type_id in descriptors["type_id"] if TYPE_ID_HANDLER.get(int(type_id)) is None]
    if unknown:
        raise _not_a_beton(path, f"field type {unknown[0]} is none of FFCV's")
    try:
        names = [decode_null_terminated_string(name) for name in descriptors["name"]]
        fields = get_handlers(descriptors)
        metadata_type = get_metadata_type(fields)
    except Exception as error:  # an array field parses its arguments from JSON, and may raise anything
        raise _not_a_beton(path, f"its field descriptors cannot be read ({type(error).__name__})") from error
    described = dict(zip(names, fields, strict=True))
    for name, kind in (("image", RGBImageField), ("label", IntField)):
        if type(described.get(name)) is not kind:
            listed = ", ".join(f"{name!r} ({type(field).__name__})" for name, field in described.items())
            raise UserError(f"{path}: has no {kind.__name__} named {name!r}, its fields are {listed}")
    num_stored = sum(isinstance(field, RGBImageField | BytesField | NDArrayField) for field in fields)
    return names, metadata_type, num_stored


def _stored_sizes(path: Path, images: NDArray[Any], table: NDArray[Any]) -> NDArray[np.uint64]:
    """Bytes of each stored image (samples,), from the row of the allocation table with the image's offset."""
    if np.array_equal(table["ptr"], images["data_ptr"]):  # as in all that we write
        return table["size"].astype(np.uint64)
    order = np.argsort(table["ptr"], kind="stable")
    starts = table["ptr"][order]
    rows = np.minimum(np.searchsorted(starts, images["data_ptr"]), len(starts) - 1)
    found = starts[rows] == images["data_ptr"]
    if not found.all():
        raise _damaged(path, f"the image of sample {int(np.argmin(found))} is not in its allocation table")
    return table["size"][order][rows].astype(np.uint64)


def _check_images(path: Path, images: NDArray[Any], labels: NDArray[Any], sizes: NDArray[np.uint64]) -> None:
    """Raises UserError for the first sample with impossible metadata."""
    pixels = images["width"].astype(np.uint64) * images["height"]
    is_raw = images["mode"] == RAW_MODE
    for name, valid in (
        ("mode", is_raw | (images["mode"] == JPEG_MODE)),
        ("width or height", pixels > 0),
        ("stored size", np.where(is_raw, sizes == 3 * pixels, sizes > 0)),
    ):
        if not valid.all():
            raise _damaged(path, f"the {name} of sample {int(np.argmin(valid))} is none that an image can have")
    if labels.min() < 0:
        sample = int(np.argmax(labels < 0))
        raise UserError(
            f"{path}: sample {sample} has label {labels[sample]}: want 0 to the number of classes - 1; convert it again with "
            "such labels, or without the images that have none"
        )


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest beside a beton; None if there is none. Raises UserError if it cannot be read or is no manifest."""
    manifest = manifest_path(path)
    if not manifest.exists():
        return None
    try:
        content = json.loads(manifest.read_bytes())
    except OSError as error:
        raise UserError(f"{manifest}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{manifest}: is not JSON: {error}; move it away, or convert the beton again") from error
    if not isinstance(content, dict) or content.get("format") not in _MANIFEST_FORMATS:
        raise UserError(f"{manifest}: is no manifest of format {MANIFEST_FORMAT}; move it away, or convert again")
    for key, section in (("source", "source"), ("settings", "write")):
        if key in content:
            content[key] = as_now({section: content[key]})[section]
    return content


def _shard(path: Path, content: dict[str, Any] | None, num_samples: int) -> Shard | None:
    """The manifest's entry about the shard; None if it has none."""
    manifest = manifest_path(path)
    shard = read_shard(content, manifest)
    if shard is not None and (said := sum(shard.part_sizes)) != num_samples:
        raise UserError(
            f"{manifest}: says {said} samples in the parts of its shard, {path.name} has {num_samples}; convert again"
        )
    return shard


def _classes(path: Path, content: dict[str, Any] | None, labels: NDArray[Any]) -> tuple[str, ...] | None:
    """Class names from the manifest beside the beton; None if there is none."""
    manifest = manifest_path(path)
    if content is None:
        return None
    num_samples, classes = content.get("num_samples"), content.get("classes")
    if num_samples != len(labels):
        raise UserError(f"{manifest}: says {num_samples} samples, {path.name} has {len(labels)}; convert it again")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{manifest}: classes are not a list of names; convert the beton again")
    if labels.max() >= len(classes):
        sample = int(np.argmax(labels))
        raise UserError(
            f"{manifest}: has {len(classes)} classes, {path.name} has label {labels[sample]} for sample {sample}; convert again"
        )
    return tuple(classes)
