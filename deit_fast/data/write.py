"""Takes an image folder, gives a beton that stock FFCV reads, and a manifest that says what is in it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL

import deit_fast
from deit_fast.config import UserError, WriteConfig
from deit_fast.data.beton import JPEG_MODE, MANIFEST_FORMAT, RAW_MODE, Beton, manifest_path, open_beton
from deit_fast.data.sources import BadImage, ImageFolder, open_image_folder
from deit_fast.data.writer import DISK_FULL, ENDING_SIGNALS, BetonWriter


def write_beton(config: WriteConfig) -> dict[str, Any]:
    """Converts config.source into the beton config.out and its manifest, prints a summary, gives the manifest.

    Both files come under their final names only when complete, so an earlier beton stays until then; whatever ends the
    conversion before, Ctrl-C and SIGTERM included, leaves neither files nor processes behind. Raises UserError for what
    the user can mend, and WorkerError, naming the image, where a worker process fails or dies.
    """
    started = time.perf_counter()
    out = _output_path(config)
    if not config.source:
        raise UserError("write.source is not set: want an image folder with one folder for each class")
    folder = open_image_folder(Path(config.source))
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    with _ending_signals_raise():
        try:
            skipped = BetonWriter(partial, folder, config).write()
            _sync(partial)
            manifest = _manifest(config, folder, open_beton(partial), skipped)
            manifest["wall_seconds"] = round(time.perf_counter() - started, 3)
            _publish(partial, out, json.dumps(manifest, indent=2))
        except OSError as error:
            if error.errno in DISK_FULL:
                raise UserError(f"{out}: cannot be written: {os.strerror(error.errno)}") from error
            raise
        finally:
            partial.unlink(missing_ok=True)
    _print_summary(out, manifest)
    return manifest


def _output_path(config: WriteConfig) -> Path:
    if not config.out:
        raise UserError("write.out is not set: want the path of the beton to write")
    out = Path(config.out)
    for path in (out, manifest_path(out)):
        if path.exists() and not path.is_file():
            raise UserError(f"write.out={config.out}: {path} is {'a folder' if path.is_dir() else 'not a file'}")
    if not out.parent.is_dir():
        raise UserError(f"write.out={config.out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"write.out={config.out}: the folder {out.parent} cannot be written to")
    return out


@contextmanager
def _ending_signals_raise() -> Iterator[None]:
    """Turns the first signal that asks the process to end into an exception, and leaves further ones unheard.

    So that the clean-up runs, and a second Ctrl-C does not cut it short. A signal that was ignored before (nohup) stays
    so, and away from the main thread, where Python allows no handlers, nothing changes.
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


def _sync(path: Path) -> None:
    """Waits until the file, or the names in the folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(partial: Path, out: Path, manifest_text: str) -> None:
    """Gives the manifest, then the beton its final name. Where that fails, what lay there before is as it was."""
    manifest = manifest_path(out)
    earlier = manifest.read_text(encoding="utf-8") if manifest.exists() else None
    _write_manifest(manifest, manifest_text)
    try:
        partial.replace(out)
    except BaseException:
        manifest.unlink()
        if earlier is not None:
            _write_manifest(manifest, earlier)
        raise
    _sync(out.parent)


def _write_manifest(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _manifest(config: WriteConfig, folder: ImageFolder, beton: Beton, skipped: list[BadImage]) -> dict[str, Any]:
    return {
        "format": MANIFEST_FORMAT,
        "versions": {
            "deit_fast": deit_fast.__version__,
            "ffcv": importlib.metadata.version("ffcv"),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
        "source": str(folder.root.resolve()),
        "settings": dataclasses.asdict(config),
        "classes": list(folder.classes),
        "images_per_class": np.bincount(beton.labels, minlength=len(folder.classes)).tolist(),
        "num_samples": beton.num_samples,
        "num_jpeg": int((beton.modes == JPEG_MODE).sum()),
        "num_raw": int((beton.modes == RAW_MODE).sum()),
        "file_bytes": beton.path.stat().st_size,
        "mean_width": float(beton.widths.mean()),
        "mean_height": float(beton.heights.mean()),
        "max_width": int(beton.widths.max()),
        "max_height": int(beton.heights.max()),
        "skipped": [{"path": bad.path, "reason": bad.reason} for bad in skipped],
    }


def _print_summary(out: Path, manifest: dict[str, Any]) -> None:
    num_samples, num_skipped = manifest["num_samples"], len(manifest["skipped"])
    stored = f"{manifest['num_jpeg']:,} JPEG, {manifest['num_raw']:,} raw"
    size = f"{manifest['file_bytes'] / 1e6:,.1f} MB"
    images_per_second = (num_samples + num_skipped) / manifest["wall_seconds"]
    print(f"wrote {out}: {num_samples:,} images ({stored}) in {len(manifest['classes']):,} classes, {size}")
    print(f"{manifest['wall_seconds']:,.1f} s, {images_per_second:,.0f} images/s, {num_skipped:,} skipped")
