"""Lists the images that words name: files, folders, betons, and patterns of these."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import LeftOut, left_out_for_names
from deit_fast.data.convert.sources.file_names import reason_to_leave_out
from deit_fast.data.convert.sources.walk import files_below
from deit_fast.data.format.beton_set import BetonSet, open_set

_BETON = ".beton"
_SPECIAL = frozenset("*?[")


@dataclass
class Inputs:
    """Images in the order of the words. groups: paths of files, or a beton. left_out: files in folders that are no images."""

    groups: list[list[str] | BetonSet] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        return sum(len(group) if isinstance(group, list) else group.num_samples for group in self.groups)

    def _add(self, group: list[str] | BetonSet) -> None:
        if isinstance(group, list) and self.groups and isinstance(self.groups[-1], list):
            self.groups[-1] += group  # full batches, across folders
        elif isinstance(group, BetonSet) or group:
            self.groups.append(group)

    def add(self, path: str) -> None:
        """Adds a file, all images below a folder, sorted by name, or those of a beton. Raises UserError where there is none."""
        if Path(path).is_dir():
            files, left_out = files_below(Path(path))
            images = [file for file in files if not reason_to_leave_out(file)]
            prefix = path.rstrip("/") + "/" if path != "/" else path
            self._add([prefix + file for file in images])
            self.left_out += left_out
            self.left_out += left_out_for_names((file for file in files if reason_to_leave_out(file)), prefix)
        elif path.endswith(_BETON):
            self._add(open_set(path, "predict.images"))
        else:
            self._add([path])


def list_images(words: Iterable[str]) -> Inputs:
    """Lists the images that words name. A word that is no path, and has *, ? or [, is a pattern; ** stands for any folders.

    Raises UserError for a word that names nothing, and if there are no images.
    """
    inputs = Inputs()
    for word in words:
        if Path(word).exists() or Path(word).is_symlink():
            inputs.add(word)
            continue
        # not Path.glob, which takes no absolute pattern
        found = sorted(glob.glob(word, recursive=True)) if _SPECIAL & set(word) else []  # noqa: PTH207
        if not found:
            what = "matches no file" if _SPECIAL & set(word) else "no such file or folder"
            raise UserError(f"predict.images={word}: {what}; want image files, folders, betons or patterns")
        for path in found:
            inputs.add(path)
    if not inputs.groups:
        raise UserError("predict.images: no images; want image files, folders, betons or patterns")
    return inputs
