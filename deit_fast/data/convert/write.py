"""Converts a source into a beton that stock FFCV reads, and a manifest that describes it: `deit-fast write`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL

import deit_fast
from deit_fast.config import SourceConfig, UserError, WriteConfig, check_sections
from deit_fast.cores import num_cores
from deit_fast.data.convert.conversion import Conversion, convert_parts, estimated_bytes
from deit_fast.data.convert.partial import PartialBeton
from deit_fast.data.convert.progress import Progress
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.convert.workers import DISK_FULL, ENDING_SIGNALS
from deit_fast.data.format import layout
from deit_fast.data.format.beton import MANIFEST_FORMAT, manifest_path
from deit_fast.data.format.files import printable
from deit_fast.data.format.index import structure_digest
from deit_fast.data.load.forecast import forecast

_SPACE_MARGIN = 0.95  # the estimate may be a few per cent too high: try if space is nearly enough
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
    out = _output_path(config)
    source = open_source(source_config)
    for warning in source.accounts().warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        with _ending_signals_raise():
            manifest = _convert(source, source_config, config, out, started)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise UserError(f"{out}: cannot be written: {os.strerror(error.errno)}") from error
        raise
    except SystemExit as error:
        if isinstance(error.code, int) and error.code > 128:
            print(f"deit-fast write: ended by {signal.Signals(error.code - 128).name}", file=sys.stderr)
        raise
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
            _check_space(out, estimated_bytes(conversion), partial)
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
    except BaseException as error:
        kept = partial.abandon()
        if kept or isinstance(error, KeyboardInterrupt | SystemExit):
            print(kept or f"{out}: nothing is kept of the conversion", file=sys.stderr)
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
        "versions": {
            "deit_fast": deit_fast.__version__,
            "ffcv": importlib.metadata.version("ffcv"),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
        "layout": {"version": layout.LAYOUT_VERSION},
        "source": {"kind": source_config.kind, "num_samples": source.num_samples, "digest": source.digest()},
        "write": write,
    }


def _output_path(config: WriteConfig) -> Path:
    if not config.out:
        raise UserError("write.out is not set: want the path of the beton to write")
    out = Path(config.out)
    out = out.resolve() if out.is_symlink() else out
    for path in (out, manifest_path(out)):
        if path.exists() and not path.is_file():
            raise UserError(f"write.out={config.out}: {path} is {'a folder' if path.is_dir() else 'not a file'}")
    if not out.parent.is_dir():
        raise UserError(f"write.out={config.out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"write.out={config.out}: the folder {out.parent} cannot be written to")
    return out


def _check_space(out: Path, wanted_bytes: int, partial: PartialBeton) -> None:
    """Raises UserError if the beton, estimated from a few of its images, will not fit on the disk."""
    free_bytes = shutil.disk_usage(out.parent).free + partial.end
    if _SPACE_MARGIN * wanted_bytes > free_bytes:
        raise UserError(
            f"{out}: will take about {wanted_bytes / 1e6:,.1f} MB, and {free_bytes / 1e6:,.1f} MB are free there; choose "
            "another disk, or write.max_resolution, write.jpeg_quality or source.subset for a smaller one"
        )


@contextmanager
def _ending_signals_raise() -> Iterator[None]:
    """Turns the first signal that asks the process to end into an exception, and ignores further ones.

    The clean-up then runs, and a second Ctrl-C does not cut it short. A signal that was ignored before (nohup) stays
    ignored. Outside the main thread, where Python allows no handlers, nothing changes.
    """

    def end(number: int, _: Any) -> None:
        for each in previous:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    previous: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {each: signal.getsignal(each) for each in ENDING_SIGNALS}
        previous = {each: handler for each, handler in previous.items() if handler is not signal.SIG_IGN}
    for each in previous:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


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
