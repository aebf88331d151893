"""Converts a source into a beton that stock FFCV reads, and a manifest that describes it: `deit-fast write`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from deit_fast.config import SourceConfig, UserError, WriteConfig, check_sections
from deit_fast.cores import num_cores
from deit_fast.data.convert.conversion import Conversion, convert_parts, estimated_bytes
from deit_fast.data.convert.output import check_space, output_path, versions, writing
from deit_fast.data.convert.partial import PartialBeton
from deit_fast.data.convert.progress import Progress
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.format import layout
from deit_fast.data.format.beton import MANIFEST_FORMAT
from deit_fast.data.format.files import printable
from deit_fast.data.format.index import structure_digest
from deit_fast.data.load.forecast import forecast

_SPACE_MARGIN = 0.95  # the estimate may be a few per cent too high: try if space is nearly enough
_SMALLER = ", or write.max_resolution, write.jpeg_quality or source.subset for a smaller one"
# settings that change how a conversion runs, not its result
_NOT_IN_THE_BYTES = ("out", "on_error", "num_workers", "resume")


def write_beton(source_config: SourceConfig, config: WriteConfig) -> dict[str, Any]:
    """Converts a source into the beton config.out and its manifest, prints a summary, and returns the manifest.

    The bytes of the beton depend only on the source and the settings, not on the number of workers or on how often the
    conversion was interrupted and resumed. Beton and manifest get their final names only when complete and on disk. If
    anything ends the conversion earlier, Ctrl-C and SIGTERM included, no process remains, and on disk only OUT.partial and
    OUT.partial.parts with what is finished; a line on stderr says so. Raises UserError for what the user can mend, and
    WorkerError, naming the image, for a defect in a worker.
    """
    started = time.perf_counter()
    check_sections(source=source_config, write=config)
    out = output_path("write.out", config.out)
    source = open_source(source_config)
    for warning in source.accounts().warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        with writing(out, "write"):
            manifest = _convert(source, source_config, config, out, started)
    finally:
        source.close()
    try:
        _print_summary(out, manifest)
    except OSError as error:
        raise UserError(f"wrote {out}, but its summary could not be printed: {error.strerror}") from error
    return manifest


def _convert(source: Source, source_config: SourceConfig, config: WriteConfig, out: Path, started: float) -> dict[str, Any]:
    conversion = Conversion(source, config)
    settings = _settings(source, source_config, config)
    num_workers = max(1, min(config.num_workers or num_cores(), conversion.num_parts))
    partial = PartialBeton(out, settings, source.num_samples, config.resume)
    try:
        if partial.published is not None:
            partial.abandon()
            return partial.published
        with Progress(source.num_samples) as progress:
            if partial.has_parts:
                partial.take_up(num_workers, progress.found)
            check_space(out, estimated_bytes(conversion), partial.end, _SMALLER, _SPACE_MARGIN)
            convert_parts(conversion, partial, num_workers, progress)
        if partial.num_samples == 0:
            raise UserError(f"{source.location}: none of its {source.num_samples} files is an image; {_first_odd(partial)}")
        partial.finish()
        manifest = {
            "format": MANIFEST_FORMAT,
            "versions": settings["versions"],
            "source": _where(source_config),
            "settings": dataclasses.asdict(config),
            "classes": list(source.classes),
            "files": source.accounts().facts(partial.num_samples, partial.totals.num_skipped),
            "file_bytes": partial.path.stat().st_size,
            **partial.totals.facts(len(source.classes)),
        }
        manifest["digests"]["structure"] = structure_digest(partial.path, partial.num_samples, partial.end)
        manifest["wall_seconds"] = round(time.perf_counter() - started, 3)
        partial.publish(json.dumps(manifest, indent=1))
        return manifest
    except BaseException:
        partial.tell_what_is_kept()
        raise
    finally:
        partial.close()


def _where(config: SourceConfig) -> dict[str, Any]:
    """The source's options, with paths that are valid from any folder."""
    paths = {name: getattr(config, name) for name in ("path", "classes")}
    return dataclasses.asdict(config) | {name: str(Path(path).resolve()) if path else "" for name, path in paths.items()}


def _first_odd(partial: PartialBeton) -> str:
    odd = partial.totals.odd[0]
    return f"{odd['name']}: {odd['reason']}"


def _settings(source: Source, source_config: SourceConfig, config: WriteConfig) -> dict[str, Any]:
    """Everything that the bytes of the beton depend on."""
    write = {name: value for name, value in dataclasses.asdict(config).items() if name not in _NOT_IN_THE_BYTES}
    return {
        "versions": versions(),
        "layout": {"version": layout.LAYOUT_VERSION},
        "source": {"kind": source_config.kind, "num_samples": source.num_samples, "digest": source.digest()},
        "write": write,
    }


def _print_summary(out: Path, manifest: dict[str, Any]) -> None:
    num_samples, odd = manifest["num_samples"], manifest["num_odd"]
    stored = f"{manifest['num_jpeg']:,} JPEG, {manifest['num_exact']:,} of them with their source's pixels; "
    stored += f"{manifest['num_raw']:,} raw"
    size = f"{manifest['file_bytes'] / 1e6:,.1f} MB"
    images_per_second = (num_samples + odd["skipped"]) / manifest["wall_seconds"]
    print(f"wrote {out}: {num_samples:,} images ({stored}) in {len(manifest['classes']):,} classes, {size}")
    print(
        f"{manifest['wall_seconds']:,.1f} s, {images_per_second:,.0f} images/s; {odd['converted']:,} odd files converted, "
        f"{odd['repaired']:,} repaired, {odd['skipped']:,} skipped"
    )
    print(_files_line(manifest))
    print(forecast(manifest, len(manifest["classes"]))[1])


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
