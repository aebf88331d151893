"""Compiles the functions of loaders, and those for image files, in parallel processes, once for all processes of a machine, and
shows the progress.

Numba holds a lock while it compiles, so threads of one process gain nothing. Decoding takes about as long to compile as all
later stages. Every process loads the compiled functions from Numba's cache on disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import hashlib
import os
import platform
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import llvmlite.binding
import numba
from numba.core import event
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

from deit_fast.bar import Bar
from deit_fast.cores import num_cores
from deit_fast.data.load.batch import shown
from deit_fast.data.load.batches import Loader
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.file_parts import OF_FILES, try_out_files
from deit_fast.data.load.gpu_decode import GATHERING, RaggedDecoder
from deit_fast.data.load.views import AUGMENTING, DECODING, HALVING, CpuViews
from deit_fast.kernels.cached import sources_stamp
from deit_fast.kernels.decode import decode_batch_by, scaling_of
from deit_fast.kernels.resample import BICUBIC
from deit_fast.output import droppable_output

PARTS = {"decode": DECODING, "rest": AUGMENTING, "gather": GATHERING, "half": HALVING}  # of loaders
FILES = "files"  # the part for image files
_ALL_PARTS = PARTS | {FILES: OF_FILES}
ON_CPU = ("decode", "rest")  # of any loader
ON_GPU = (*ON_CPU, "gather")
SCALING = ("half",)  # with data.dct_scaling
RESOLUTION = 32
_PROGRAM = f"import sys; from {__name__} import compile_parts; compile_parts(sys.argv[1], sys.argv[2:])"
_is_compiling = False  # this process is one of those


@functools.cache
def compile_ahead(beton: Path | None, parts: tuple[str, ...] = ON_CPU) -> None:
    """Compiles some of `PARTS`, or FILES, into Numba's cache where they are missing. `PARTS` need a sound beton, any of two
    images or more; FILES need none.

    The first process of a machine compiles; others wait for it. If that fails, or no folder is writable, each process compiles
    a function when it first calls it.
    """
    folder = _cache_folder()
    if _is_compiling or folder is None:
        return
    sources, machine = _digests()
    marks = {part: folder / f"compiled-{part}-{sources}-{machine}" for part in parts}
    with contextlib.suppress(OSError):
        if all(mark.exists() for mark in marks.values()):
            return
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "compiling.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            missing = [part for part, mark in marks.items() if not mark.exists()]
            if missing and _compile(beton, missing):
                for former in folder.glob("compiled-*"):
                    if sources not in former.name:  # which Numba has written over
                        former.unlink()
                for part in missing:
                    marks[part].touch()


def _cache_folder() -> Path | None:
    """Numba's cache folder for `decode_batch_by`; None if it has none."""
    cache = getattr(decode_batch_by, "_cache", None)
    return None if cache is None or isinstance(cache, NullCache) else Path(cache.cache_path)


def _digests() -> tuple[str, str]:
    """Digests of the sources and versions of cached code, and of the processor that it is for."""
    files = {Path(function.py_func.__code__.co_filename) for part in _ALL_PARTS.values() for function in part}
    sources = sorted(sources_stamp(path) for path in files)
    versions = (numba.__version__, llvmlite.__version__, platform.python_version())
    processor = (llvmlite.binding.get_host_cpu_name(), llvmlite.binding.get_host_cpu_features().flatten())
    code, machine = (hashlib.sha256(repr(facts).encode()).hexdigest()[:16] for facts in ((sources, versions), processor))
    return code, machine


def _compile(beton: Path | None, parts: list[str]) -> bool:
    """Compiles the parts; gives whether that succeeded."""
    started = time.monotonic()
    workers = [parts] if num_cores() == 1 else [[part] for part in parts]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(droppable_output())
        processes = []
        for parts in workers:
            command = [sys.executable, "-c", _PROGRAM, str(beton.resolve()) if beton else "", *parts]
            nothing = subprocess.DEVNULL
            process = subprocess.Popen(
                command, bufsize=0, env=environment, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing
            )
            stack.callback(_end, process)
            processes.append(process)
        print("deit_fast: compiling for this machine, once", file=sys.stderr, flush=True)
        num_functions = _follow(processes)
        if any(process.wait() for process in processes):
            return False
        print(
            f"deit_fast: compiled {num_functions} functions in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True
        )
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _follow(processes: list[subprocess.Popen[bytes]]) -> int:
    """Shows how many functions are compiled, from the processes' output: first a line with their number, then one line for
    each. Gives their number."""
    done: set[str] = set()
    total: set[str] = set()
    bar = Bar(unit=" functions", disable=not sys.stderr.isatty(), leave=False)
    with selectors.DefaultSelector() as selector, contextlib.closing(bar):
        for process in processes:
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline().decode().strip()  # type: ignore[union-attr]
                if not line:
                    selector.unregister(key.fileobj)
                elif line.startswith("+"):
                    total.update(line[1:].split())
                    bar.total = len(total)
                else:
                    done.add(line)
                    bar.n = len(done)
                bar.refresh()
    return len(done)


def compile_parts(beton: str, parts: list[str]) -> None:
    """Runs in one of the processes: compiles some parts and prints the names of functions, for `_follow`."""
    global _is_compiling
    _is_compiling = True
    compile_faster()
    loaders = _loaders(beton) if parts != [FILES] else []
    names = _names([function for part in parts for function in _ALL_PARTS[part]])
    print("+" + " ".join(sorted(names)), flush=True)
    event.register("numba:compile", _Reporter(names))
    for part in parts:
        if part == FILES:
            try_out_files(RESOLUTION)
        else:
            for loader in loaders:
                _try_out(loader, part)


def _loaders(beton: str) -> list[Loader]:
    """A loader for training and one for evaluation."""
    import torch

    from deit_fast.config import AugmentConfig, DataConfig
    from deit_fast.data.load.loader import eval_loader, train_loader

    config = DataConfig(train=beton, val=beton, batch_size=2, resolution=RESOLUTION, eval_resolution=RESOLUTION, num_workers=1)
    augment = AugmentConfig(repeats=1)
    device = torch.device("cpu")
    return [
        train_loader(config, augment, seed=0, rank=0, world_size=1, device=device),
        eval_loader(config, augment, rank=0, world_size=1, device=device),
    ]


def compile_faster() -> None:
    """Makes Numba faster in a process that compiles and ends soon: no garbage is collected, a fifteenth of the time, and the
    calls of LLVM, some 150,000, are no longer reported to timers of all functions that are then being compiled: a tenth."""
    gc.disable()
    lock = getattr(llvmlite.binding.ffi.lib, "_lock", None)
    for callbacks in list(getattr(lock, "_cblist", ())):
        llvmlite.binding.ffi.unregister_lock_callback(*callbacks)


def _try_out(loader: Loader, part: str) -> None:
    """Runs one part of the path to the first batch of an epoch, the rest on undefined views, to compile all of it."""
    if part == "half":
        scaling_of(2)
        return
    views = loader.views()
    assert isinstance(views, CpuViews)
    work, slot = views.begin(next(iter(loader.order.batches(0)))), loader.take_slot()
    if part != "rest":
        views.locate(work)
        views.plan(work)
    if part == "decode":
        views.decode(work)
    elif part == "gather":
        decoder = RaggedDecoder(
            images_of(loader.beton), BICUBIC, num_workers=1, device=loader.device, decode=lambda memory, totals: None
        )
        decoder.decode(work.ids, work.stored, work.plans, views.resolution).damaged()
    else:
        views.augment(work)
        mixed = views.draw_mix(work)
        views.finish(work, mixed, slot.images)
        views.targets(work, mixed, slot.targets)
        shown(work.ids)


class _Reporter(event.Listener):
    """Prints the name of each function of interest when it is compiled or loaded."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def on_start(self, event: Any) -> None:
        pass

    def on_end(self, event: Any) -> None:
        name = _name(event.data["dispatcher"])
        if name in self._names:
            print(name, flush=True)


def _name(dispatcher: Any) -> str:
    return f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"


def _names(functions: list[Any]) -> set[str]:
    """Names of the compiled functions that some functions call, directly or indirectly, as far as their code shows."""
    remaining, seen = list(functions), set()
    names = set()
    while remaining:
        function = remaining.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        if isinstance(function, Dispatcher):
            if function.targetoptions.get("inline") != "always":  # those are compiled within others alone
                names.add(_name(function))
            function = function.py_func
        remaining += [value for value in _mentioned(function) if isinstance(value, Dispatcher | FunctionType)]
    return names


def _mentioned(function: Any) -> Iterator[Any]:
    """Objects that a Python function's names may refer to: closure variables, globals, or members of global modules."""
    for cell in function.__closure__ or ():
        yield cell.cell_contents
    words = function.__code__.co_names
    for word in words:
        value = function.__globals__.get(word)
        yield value
        if isinstance(value, ModuleType) and value.__name__.startswith("deit_fast."):
            yield from (getattr(value, other, None) for other in words)
