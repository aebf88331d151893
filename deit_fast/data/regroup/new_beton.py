"""Writes a beton of chosen samples, and the manifest that says which betons they come from."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from ffcv.types import ALLOC_TABLE_TYPE

from deit_fast.config import UserError
from deit_fast.cores import num_cores
from deit_fast.data.convert.output import check_space, versions, writing
from deit_fast.data.convert.partial import PartialBeton
from deit_fast.data.convert.progress import Progress
from deit_fast.data.format import layout
from deit_fast.data.format.beton import MANIFEST_FORMAT, read_manifest
from deit_fast.data.format.identity import identity
from deit_fast.data.format.index import structure_digest
from deit_fast.data.format.part import Part
from deit_fast.data.regroup.choice import Choice
from deit_fast.data.regroup.copy import Copier
from deit_fast.data.regroup.joined import Joined

# facts about single images that no beton keeps: known only of all images of a beton together, from its manifest
_UNKNOWN_OF_SINGLE_IMAGES = ("num_exact", "exif_orientations", "pixel_values")


def write_chosen(joined: Joined, choice: Choice, out: Path, command: str, made: dict[str, Any]) -> dict[str, Any]:
    """Writes the chosen samples as the beton `out`, prints a summary, and gives the manifest.

    command: that of the user, which writes it. made: what decides on the choice, for the manifest. The bytes of the beton
    depend only on the stored samples and the choice. Beton and manifest get their final names when complete and on disk; what
    ends the copying earlier leaves OUT.partial and OUT.partial.parts, from which the same call goes on. Raises UserError for
    an empty choice, for `out` being one of the betons, for a disk without room, and for damage in the betons.
    """
    started = time.perf_counter()
    if not len(choice.samples):
        raise UserError(f"{out}: would have no images; want a choice that leaves some")
    for beton in joined.betons:
        if out.resolve() == beton.path.resolve():
            raise UserError(f"{out}: is one of the betons to read: want another name for the new one")
    made = _made(joined, choice, command, made)
    with writing(out, command):
        manifest = _write(joined, choice, out, made, started)
    images_per_second = len(choice.samples) / max(manifest["wall_seconds"], 1e-3)
    print(
        f"wrote {out}: {manifest['num_samples']:,} of {joined.num_samples:,} images in {len(choice.classes):,} classes, "
        f"{manifest['file_bytes'] / 1e6:,.1f} MB; {manifest['wall_seconds']:,.1f} s, {images_per_second:,.0f} images/s"
    )
    return manifest


def is_written(joined: Joined, choice: Choice, out: Path, command: str, made: dict[str, Any]) -> bool:
    """Whether `out` is already there, complete, as write_chosen would make it."""
    manifest = read_manifest(out) if out.exists() else None
    if manifest is None or manifest.get("file_bytes") != out.stat().st_size:
        return False
    return manifest.get("made") == _made(joined, choice, command, made) and manifest.get("versions") == versions()


def _write(joined: Joined, choice: Choice, out: Path, made: dict[str, Any], started: float) -> dict[str, Any]:
    settings = {
        "versions": versions(),
        "layout": {"version": layout.LAYOUT_VERSION},
        "copy": {"betons": _digest(made["betons"]), **made["chosen"]},
    }
    partial = PartialBeton(out, settings, len(choice.samples), True, "the same command")
    try:
        if partial.published is not None:
            partial.abandon()
            return partial.published
        with Progress(len(choice.samples)) as progress:
            if partial.has_parts:
                partial.take_up(num_cores(), progress.found)
            check_space(out, _bytes_of(joined, choice), partial.end)
            with closing(Copier(joined, choice)) as copier:
                _copy_parts(copier, partial, progress)
        partial.finish()
        manifest = {
            "format": MANIFEST_FORMAT,
            "versions": settings["versions"],
            "made": made,
            "classes": list(choice.classes),
            "file_bytes": partial.path.stat().st_size,
            **partial.totals.facts(len(choice.classes)),
        }
        for name in _UNKNOWN_OF_SINGLE_IMAGES:
            del manifest[name]
        manifest |= _facts_of_whole_betons(joined, choice)
        manifest["digests"]["structure"] = structure_digest(partial.path, partial.num_samples, partial.end)
        manifest["wall_seconds"] = round(time.perf_counter() - started, 3)
        partial.publish(json.dumps(manifest, indent=1))
        return manifest
    except BaseException:
        partial.tell_what_is_kept()
        raise
    finally:
        partial.close()


def _copy_parts(copier: Copier, partial: PartialBeton, progress: Progress) -> None:
    """Copies the parts that the partial beton lacks with a thread for each core; places and records them in order."""
    num_threads = num_cores()
    copying: deque[Future[Part]] = deque()
    with ThreadPoolExecutor(num_threads) as threads:
        try:
            for number in range(partial.num_parts, copier.num_parts):
                part = copier.part(number)
                partial.place(part)
                copying.append(threads.submit(copier.copy, part, partial))
                if len(copying) > num_threads:
                    _record(copying.popleft().result(), partial, progress)
            while copying:
                _record(copying.popleft().result(), partial, progress)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _record(part: Part, partial: PartialBeton, progress: Progress) -> None:
    partial.record(part)
    progress.add(len(part.rows), int(part.rows["size"].sum()), len(part.odd))


def _bytes_of(joined: Joined, choice: Choice) -> int:
    """Bytes of the beton, but for the little that stays empty at the ends of pages."""
    num_lengths = sum(
        int((index.rows["num_tiles"][samples].astype(np.int64) * index.rows["length_bytes"][samples]).sum())
        for number, index in enumerate(joined.indexes)
        if index is not None and len(samples := joined.of_beton(number, choice.samples))
    )
    num_samples = len(choice.samples)
    tables = num_samples * (layout.INDEX_TYPE.itemsize + ALLOC_TABLE_TYPE.itemsize) + num_lengths
    return layout.data_start(num_samples) + int(joined.sizes[choice.samples].sum()) + tables


def _made(joined: Joined, choice: Choice, command: str, made: dict[str, Any]) -> dict[str, Any]:
    """For the manifest: what made the beton, and the betons that it comes from, by path and digests, and what made these.

    `chosen`: SHA-256, in hexadecimal, of all that the choice has besides the betons.
    """
    origins = [
        {
            "beton": str(beton.path.resolve()),
            "num_samples": beton.num_samples,
            "num_chosen": len(joined.of_beton(number, choice.samples)),
            **identity(beton),
            **{key: manifest[key] for key in ("source", "settings", "made") if manifest and key in manifest},
        }
        for number, (beton, manifest) in enumerate(zip(joined.betons, joined.manifests, strict=True))
    ]
    columns = {"samples": choice.samples, "labels": choice.labels}
    chosen = {name: hashlib.sha256(column.astype("<i8").tobytes()).hexdigest() for name, column in columns.items()}
    return {"by": command, **made, "chosen": chosen | {"classes": _digest(choice.classes)}, "betons": origins}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _facts_of_whole_betons(joined: Joined, choice: Choice) -> dict[str, Any]:
    """What manifests say of all images of each beton together, summed, if all are chosen and all manifests say it."""
    said = [manifest or {} for manifest in joined.manifests]
    if len(choice.samples) < joined.num_samples:
        return {}
    facts: dict[str, Any] = {}
    if all("num_exact" in manifest for manifest in said):
        facts["num_exact"] = sum(manifest["num_exact"] for manifest in said)
    if all("exif_orientations" in manifest for manifest in said):
        turned = [manifest["exif_orientations"] for manifest in said]
        facts["exif_orientations"] = {
            turn: sum(of_one.get(turn, 0) for of_one in turned) for turn in sorted(set().union(*turned))
        }
    return facts
