"""Prints what a conversion has written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deit_fast.config import UserError
from deit_fast.data.format.files import printable
from deit_fast.data.format.shard import Shard, shard_path
from deit_fast.data.load.forecast import forecast


def print_summary(out: Path, manifest: dict[str, Any]) -> None:
    """Raises UserError where it cannot be printed, as all of these do: the beton is there."""
    _print(out, lambda: "\n".join(_lines(out, manifest)))


def print_shard(path: Path, manifest: dict[str, Any]) -> None:
    """One line about a shard."""
    _print(path, lambda: _first_line(path, manifest))


def print_shards(out: Path, shards: Sequence[Shard], manifests: Sequence[dict[str, Any]]) -> None:
    """One line about shards that were written one after the other, and how to load all of the conversion's."""
    count = shards[0].count
    num_images, num_bytes = (sum(manifest[name] for manifest in manifests) for name in ("num_samples", "file_bytes"))
    odd = sum((Counter(manifest["num_odd"]) for manifest in manifests), Counter[str]())
    pattern = str(shard_path(out, 0, count)).replace("-00000-of-", "-*-of-")
    _print(
        out,
        lambda: (
            f"{len(shards):,} of {count:,} shards: {num_images:,} images, {num_bytes / 1e6:,.1f} MB; {_odd_shown(odd)}\n"
            f"all of them load as one: --data.train='{pattern}'"
        ),
    )


def _print(out: Path, text: Callable[[], str]) -> None:
    try:
        print(text())
    except OSError as error:
        raise UserError(f"wrote {out}, but its summary could not be printed: {error.strerror}") from error


def _first_line(out: Path, manifest: dict[str, Any]) -> str:
    stored = f"{manifest['num_jpeg']:,} JPEG, {manifest['num_exact']:,} of them with their source's pixels; "
    stored += f"{manifest['num_raw']:,} raw"
    size = f"{manifest['file_bytes'] / 1e6:,.1f} MB"
    return f"wrote {out}: {manifest['num_samples']:,} images ({stored}) in {len(manifest['classes']):,} classes, {size}"


def _lines(out: Path, manifest: dict[str, Any]) -> list[str]:
    odd = manifest["num_odd"]
    images_per_second = (manifest["num_samples"] + odd["skipped"]) / manifest["wall_seconds"]
    return [
        _first_line(out, manifest),
        f"{manifest['wall_seconds']:,.1f} s, {images_per_second:,.0f} images/s; {_odd_shown(odd)}",
        _files_line(manifest),
        forecast(manifest, len(manifest["classes"]))[1],
    ]


def _odd_shown(odd: Mapping[str, int]) -> str:
    return f"{odd['converted']:,} odd files converted, {odd['repaired']:,} repaired, {odd['skipped']:,} skipped"


def _files_line(manifest: dict[str, Any]) -> str:
    """A line that counts the files seen by what happened to them."""
    files = manifest["files"]
    parts = [f"{files['written']:,} written"]
    parts += [f"{files['parts']:,} labels and other parts of samples"] if files["parts"] else []
    parts += [f"{files['not_chosen']:,} left by source.subset"] if files["not_chosen"] else []
    line = f"{files['seen']:,} files seen: {', '.join(parts)}, {files['skipped']:,} skipped"
    if not files["left_out"]:
        return line
    first = files["left_out"][0]
    return f"{line}, by name in the manifest; the first is {printable(first['name'])} ({first['reason']})"
