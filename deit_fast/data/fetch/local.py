"""Brings the betons that an option names to this machine, before they are used or while they are."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import DataConfig, UserError
from deit_fast.data.fetch.addresses import Named, has_address, named_betons
from deit_fast.data.fetch.copy import Copy
from deit_fast.data.fetch.progress import tell
from deit_fast.data.format.beton_set import BetonSet, open_set

_ASKED_AT_ONCE = 8  # addresses
_POLL_SECONDS = 0.05
_TOLD_SECONDS = 2.0


class Arrivals:
    """Copies that a thread completes, in their order, while the first are used.

    copies: for each stretch of the betons the copy that it maps, None for a local file. The thread starts when samples are
    first waited for. Each process of a node has one: whichever finds a copy's lock free goes on with it, so none depends on
    another.
    """

    def __init__(self, betons: BetonSet, copies: Sequence[Copy | None]) -> None:
        self._betons, self._copies = betons, copies
        self._missing = {copy.path: copy for copy in copies if copy is not None}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def wait(self, samples: NDArray[np.int64], is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Returns when the files of these samples are complete, or is_stopped says so. Raises the errors of `Copy.complete`."""
        if not self._missing:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._complete_all, name="deit_fast-copies", daemon=True)
            self._thread.start()
        started = time.monotonic()
        for stretch in np.unique(self._betons.stretches_of(samples)).tolist():
            copy, is_told = self._copies[stretch], False
            while copy is not None and copy.path in self._missing and not is_stopped():
                if self._error is not None:
                    raise self._error
                if not is_told and time.monotonic() - started > _TOLD_SECONDS:
                    tell(f"training waits for {copy.address}")
                    is_told = True
                time.sleep(_POLL_SECONDS)

    def _complete_all(self) -> None:
        try:
            for copy in list(self._missing.values()):
                copy.complete(silent=True)
                del self._missing[copy.path]
        except BaseException as error:
            self._error = error


def open_here(data: DataConfig, name: str) -> BetonSet:
    """The set of betons that data.train or data.val names; all lie on this machine then. name: "train" or "val".

    Raises UserError for what cannot be copied or opened.
    """
    if not getattr(data, name):
        raise UserError(f"data.{name} is not set: want the path of a beton, made by `deit-fast write`")
    return open_set(local_text(data, name), f"data.{name}")


def local_text(data: DataConfig, name: str) -> str:
    """What data.train or data.val names, with the paths of complete copies in place of addresses. Raises as open_here does."""
    text, option = getattr(data, name), f"data.{name}"
    if not has_address(text):
        return str(text)
    named = named_betons(text, option)
    copies = _begun(named, data, option)
    for copy in copies:
        copy.complete()
    return _with_paths(named, copies)


def open_arriving(data: DataConfig, name: str) -> tuple[BetonSet, Arrivals | None]:
    """As open_here, but with data.order=pages only the first copy is complete, and of the others what tells their images.

    The others arrive later, see Arrivals; None if all are here.
    """
    text, option = getattr(data, name), f"data.{name}"
    if data.order != "pages" or not text or not has_address(text):
        return open_here(data, name), None
    named = named_betons(text, option)
    copies = _begun(named, data, option)
    copies[0].complete()
    if not all(copy.with_tables() for copy in copies):
        return open_here(data, name), None
    betons = open_set(_with_paths(named, copies), option)
    of_path = {copy.path: copy for copy in copies}
    return betons, Arrivals(betons, [of_path.get(stretch.path) for stretch in betons.stretches])


def cache_folder(data: DataConfig) -> Path:
    """data.cache_dir, or deit_fast's part of the user's cache."""
    if data.cache_dir:
        return Path(data.cache_dir).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deit_fast" / "betons"


def _begun(named: Sequence[Named], data: DataConfig, option: str) -> list[Copy]:
    """The copy of each address, in order, for which there is room on the disk."""
    folder = cache_folder(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.cache_dir={folder}: cannot be made: {error.strerror}; want a folder for copies") from error
    copies = [Copy(one.text, folder, option) for one in named if one.is_address]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        missing_bytes = sum(threads.map(Copy.begin, copies))
    free_bytes = shutil.disk_usage(folder).free
    if missing_bytes > free_bytes:
        raise UserError(
            f"{option}: {missing_bytes / 1e6:,.1f} MB are to be copied, and {free_bytes / 1e6:,.1f} MB are free in {folder}; "
            "want another data.cache_dir, or delete copies there that are not needed"
        )
    return copies


def _with_paths(named: Sequence[Named], copies: Sequence[Copy]) -> str:
    """What names the set, with the paths of copies, in the order of the addresses, in place of these."""
    paths = iter(copies)
    return ",".join(
        f"{next(paths).path}{f'*{one.times}' if one.times > 1 else ''}" if one.is_address else one.text for one in named
    )
