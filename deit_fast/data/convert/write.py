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
from deit_fast.data.convert.partial import PartialBeton, refuse_interrupted
from deit_fast.data.convert.progress import Progress
from deit_fast.data.convert.shards import check_split, is_split, parts_of, shards_to_write, written_shard
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.summary import print_shard, print_shards, print_summary
from deit_fast.data.format import layout
from deit_fast.data.format.beton import MANIFEST_FORMAT
from deit_fast.data.format.index import structure_digest
from deit_fast.data.format.shard import Shard, shard_path

_SPACE_MARGIN = 0.95  # the estimate may be a few per cent too high: try if space is nearly enough
_SMALLER = ", or write.max_resolution, write.jpeg_quality or source.subset for a smaller one"
# settings that change how a conversion runs, not its result
_NOT_IN_THE_BYTES = ("out", "on_error", "num_workers", "resume", "shards", "shard_gb", "only")


def write_beton(source_config: SourceConfig, config: WriteConfig) -> dict[str, Any]:
    """Converts a source into the beton config.out and its manifest, prints a summary, and returns the manifest.

    The bytes of the beton depend only on the source and the settings, not on the number of workers or on how often the
    conversion was interrupted and resumed. Beton and manifest get their final names only when complete and on disk. If
    anything ends the conversion earlier, Ctrl-C and SIGTERM included, no process remains, and on disk only OUT.partial and
    OUT.partial.parts with what is finished; a line on stderr says so. Raises UserError for what the user can mend, and
    WorkerError, naming the image, for a defect in a worker.

    With config.shards, shard_gb or only, it writes shards one after the other, each as above, and returns `shards`, their
    manifests. With config.resume, those that are finished stay.
    """
    started = time.perf_counter()
    check_sections(source=source_config, write=config)
    check_split(config)
    out = output_path("write.out", config.out)
    source = open_source(source_config)
    for warning in source.accounts().warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        with writing(out, "write"):
            whole = Conversion(source, config)
            settings = _settings(source, source_config, config)
            if is_split(config):
                return {"shards": _write_shards(whole, source_config, settings, out)}
            manifest = _convert(whole, source_config, settings, out, started)
    finally:
        source.close()
    print_summary(out, manifest)
    return manifest


def _write_shards(whole: Conversion, source_config: SourceConfig, settings: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    manifests = []
    config, shards = whole.config, shards_to_write(whole, settings, whole.config)
    paths = [output_path("write.out", str(shard_path(out, shard.number, shard.count))) for shard in shards]
    if not config.resume:  # before hours of work on the shards in front of one that cannot be written
        for path in paths:
            refuse_interrupted(path)
        if len(shards) > 1:
            check_space(out, estimated_bytes(whole), 0, _SMALLER, _SPACE_MARGIN)
    for shard, path in zip(shards, paths, strict=True):
        manifest = written_shard(path, shard) if config.resume else None
        if manifest is None:
            conversion = whole.of_parts(parts_of(whole, shard.number, shard.count))
            manifest = _convert(conversion, source_config, settings, path, time.perf_counter(), shard)
            print_shard(path, manifest)
        else:
            print(f"{path}: is finished already")
        manifests.append(manifest)
    print_shards(out, shards, manifests)
    return manifests


def _convert(
    conversion: Conversion,
    source_config: SourceConfig,
    settings: dict[str, Any],
    out: Path,
    started: float,
    shard: Shard | None = None,
) -> dict[str, Any]:
    source, config, num_samples = conversion.source, conversion.config, len(conversion.all_samples)
    num_workers = max(1, min(config.num_workers or num_cores(), conversion.num_parts))
    partial = PartialBeton(out, settings, num_samples, config.resume)
    try:
        if partial.published is not None:
            partial.abandon()
            return partial.published
        with Progress(num_samples) as progress:
            if partial.has_parts:
                partial.take_up(num_workers, progress.found)
            check_space(out, estimated_bytes(conversion), partial.end, _SMALLER, _SPACE_MARGIN)
            convert_parts(conversion, partial, num_workers, progress)
        if partial.num_samples == 0:
            raise UserError(f"{source.location}: none of its {num_samples} files is an image; {_first_odd(partial)}")
        partial.finish()
        manifest = {
            "format": MANIFEST_FORMAT,
            "versions": settings["versions"],
            "source": _where(source_config),
            "settings": dataclasses.asdict(config),
            "classes": list(source.classes),
            "files": _files(conversion, partial),
            "file_bytes": partial.path.stat().st_size,
            **partial.totals.facts(len(source.classes)),
        }
        if shard is not None:
            manifest["shard"] = dataclasses.replace(shard, part_sizes=tuple(partial.part_sizes)).entry()
        manifest["digests"]["structure"] = structure_digest(partial.path, partial.num_samples, partial.end)
        manifest["wall_seconds"] = round(time.perf_counter() - started, 3)
        partial.publish(json.dumps(manifest, indent=1))
        return manifest
    except BaseException:
        partial.tell_what_is_kept()
        raise
    finally:
        partial.close()


def _files(conversion: Conversion, partial: PartialBeton) -> dict[str, Any]:
    """What happened to the source's files. A shard's images are not all of them: `other_shards` counts the rest."""
    facts = conversion.source.accounts().facts(partial.num_samples, partial.totals.num_skipped)
    num_others = conversion.source.num_samples - len(conversion.all_samples)
    return {**facts, "other_shards": num_others} if num_others else facts


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
