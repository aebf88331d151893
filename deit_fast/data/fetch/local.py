"""Brings the betons that an option names to this machine, before they are used or while they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import DataConfig, UserError
from deit_fast.data.fetch.addresses import Named, has_address, named_betons
from deit_fast.data.fetch.copy import Copy
from deit_fast.data.fetch.progress import CopyProgress, tell
from deit_fast.data.fetch.threads import CopyThreads
from deit_fast.data.format.beton_set import BetonSet, open_set

_ASKED_AT_ONCE = 8  # addresses


class Arrivals:
    """Files of a set that are still being copied while others are used. of_stretch: the copy of each stretch, None: local."""

    def __init__(self, betons: BetonSet, of_stretch: Sequence[Copy | None]) -> None:
        self._betons, self._of_stretch = betons, of_stretch
        self._threads = CopyThreads([copy for copy in of_stretch if copy is not None])

    def begin(self) -> None:
        """Starts the copying; a second call does nothing."""
        self._threads.start()

    def wait(self, samples: NDArray[np.int64], is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Returns when the files of these samples are complete, or is_stopped says so. Raises the errors of `Copy.complete`.

        The first call starts the copying, if `begin` has not.
        """
        self.begin()
        found = (self._of_stretch[stretch] for stretch in np.unique(self._betons.stretches_of(samples)).tolist())
        self._threads.wait([copy for copy in found if copy is not None], is_stopped)


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
    copies = _copies(named, data, option)
    num_bytes = _begin(copies, data, option)
    num_missing = sum(not copy.is_complete() for copy in copies)
    if num_missing > 1 and name == "train" and data.order == "random":
        tell(f"data.order=random needs all {num_missing} files first; with data.order=pages training begins with the first")
    _complete(copies, num_bytes, data)
    return _with_paths(named, copies)


def open_arriving(data: DataConfig, name: str) -> tuple[BetonSet, Arrivals | None]:
    """As open_here, but with data.order=pages only the first copy is complete, and of the others what tells their images.

    The others arrive later, see Arrivals; None if all are here.
    """
    text, option = getattr(data, name), f"data.{name}"
    if data.order != "pages" or not text or not has_address(text):
        return open_here(data, name), None
    named = named_betons(text, option)
    copies = _copies(named, data, option)
    num_bytes = _begin(copies, data, option)
    _complete(copies[:1], num_bytes[:1], data)
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        if not all(threads.map(Copy.with_tables, copies)):
            return open_here(data, name), None
    betons = open_set(_with_paths(named, copies), option)
    of_path = {copy.path: copy for copy in copies}
    return betons, Arrivals(betons, [of_path.get(stretch.path) for stretch in betons.stretches])


def cache_folder(data: DataConfig) -> Path:
    """data.cache_dir, or deit_fast's part of the user's cache."""
    if data.cache_dir:
        return Path(data.cache_dir).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deit_fast" / "betons"


def _copies(named: Sequence[Named], data: DataConfig, option: str) -> list[Copy]:
    """The copy of each address, in order."""
    folder = cache_folder(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.cache_dir={folder}: cannot be made: {error.strerror}; want a folder for copies") from error
    return [Copy(one.text, folder, option) for one in named if one.is_address]


def _begin(copies: Sequence[Copy], data: DataConfig, option: str) -> list[int]:
    """`Copy.begin` of each. Raises UserError if there is no room on the disk for all."""
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        num_bytes = list(threads.map(Copy.begin, copies))
    folder = cache_folder(data)
    free_bytes = shutil.disk_usage(folder).free
    if sum(num_bytes) > free_bytes:
        raise UserError(
            f"{option}: {sum(num_bytes) / 1e6:,.1f} MB are to be copied, and {free_bytes / 1e6:,.1f} MB are free in {folder}; "
            "want another data.cache_dir, or delete copies there that are not needed"
        )
    return num_bytes


def _complete(copies: Sequence[Copy], num_bytes: Sequence[int], data: DataConfig) -> None:
    """Completes copies, of which so many bytes each are missing, with progress."""
    missing = [copy for copy in copies if not copy.is_complete()]
    if not missing:
        return
    if sum(num_bytes):
        tell(f"copies {len(missing)} file(s), {sum(num_bytes) / 1e6:,.1f} MB, to {cache_folder(data)}")
    else:
        tell(f"waits for another process, which copies {missing[0].address}")
    with CopyProgress(sum(num_bytes)) as progress:
        threads = CopyThreads(missing, progress.add)
        threads.start()
        try:
            threads.wait(missing, told=True)
        finally:
            threads.stop()


def _with_paths(named: Sequence[Named], copies: Sequence[Copy]) -> str:
    """What names the set, with the paths of copies, in the order of the addresses, in place of these."""
    paths = iter(copies)
    return ",".join(
        f"{next(paths).path}{f'*{one.times}' if one.times > 1 else ''}" if one.is_address else one.text for one in named
    )
