"""Takes little, gives images, tars and the like for tests of sources, and what forked processes read from a source."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deit_fast.data.convert.sources.base import Source


def jpeg(number: int) -> bytes:
    """A small JPEG, different for each number."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def tar_bytes(files: Mapping[str, bytes], mode: Any = "w", kind: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of these files, in their order; mode w:gz and the like compress it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=kind) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def digest(image: object) -> str:
    return hashlib.sha256(image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes()).hexdigest()


def contents(source: Source) -> list[tuple[str, int, str]]:
    """Name, label and digest of each image."""
    return [(source.name(n), int(source.labels[n]), digest(source.read(n))) for n in range(source.num_samples)]


def contents_in_processes(source: Source, num_processes: int = 3) -> list[list[tuple[str, int, str]]]:
    """`contents` as forked processes see them that read at once, each from another sample on."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(num_processes)
    queue: Any = context.SimpleQueue()

    def work(rank: int) -> None:
        barrier.wait(30)
        order = np.roll(np.arange(source.num_samples), -rank * source.num_samples // num_processes).tolist()
        seen = {n: (source.name(n), int(source.labels[n]), digest(source.read(n))) for n in order}
        queue.put([seen[n] for n in range(source.num_samples)])

    processes = [context.Process(target=work, args=(rank,)) for rank in range(num_processes)]
    for process in processes:
        process.start()
    found: list[list[tuple[str, int, str]]] = []
    while len(found) < num_processes:
        if queue.empty() and all(process.exitcode is not None for process in processes) and queue.empty():
            raise AssertionError("a process ended without its result")
        if not queue.empty():
            found.append(queue.get())
    for process in processes:
        process.join()
    return found


def write_files(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
