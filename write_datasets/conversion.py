"""Runs `deit-fast write` twice, once for train and once for val, for the scripts in this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deit_fast.__main__ import main as deit_fast
from deit_fast.config import UserError, at_home
from deit_fast.data.convert.sources.shards import find_shards, split_of

# of each beton the options that say what goes into it, as --source.OPTION=VALUE; train comes first
Betons = dict[str, list[str]]
OWN_OPTIONS = ("--source.path", "--source.kind", "--source.split", "--write.out", "--out")


def convert(argv: list[str], description: str, defaults: Mapping[str, str], betons_of: Callable[[Path], Betons]) -> int:
    """Makes OUT/NAME.beton for each of betons_of(SOURCE), where argv is SOURCE OUT and options; gives the exit status.

    0: all betons are there; 2, with one line on stderr: what the user can mend; else the first status of `deit-fast
    write` that is not 0. `description` is the script's docstring, its --help. `defaults` are the options given to
    `deit-fast write` where argv does not say otherwise.
    """
    if "--help" in argv or "-h" in argv:
        print(description)
        return 0
    try:
        source, out, options = _split(argv, description, defaults)
        betons = betons_of(source)
        _make_folder(out)
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    given = {word.partition("=")[0] for word in options}
    for name, all_of_source in betons.items():
        of_source = [word for word in all_of_source if word.partition("=")[0] not in given]
        status = deit_fast(["write", *of_source, f"--write.out={out / name}.beton", *options])
        if status != 0:
            return status
    return 0


def from_source(path: Path | str, kind: str, split: str = "", classes: Path | str = "") -> list[str]:
    """Options that name a source."""
    given = {"path": path, "kind": kind, "split": split, "classes": classes}
    return [f"--source.{name}={value}" for name, value in given.items() if value]


def splits_for_betons(shards: Path, endings: tuple[str, ...]) -> dict[str, str]:
    """The split that each beton is made of: train of train, val of val, or of test where there is no val.

    Raises UserError where the names of the shards do not tell of such splits.
    """
    told = {split_of(name) for name in find_shards(str(shards), endings).files}
    val = "val" if "val" in told else "test"
    if not {"train", val} <= told:
        found = ", ".join(sorted(split for split in told if split is not None)) or "none"
        raise UserError(
            f"{shards}: splits told by the names of the shards: {found}; want train and val (or validation, or test); "
            "`deit-fast write` converts shards without"
        )
    return {"train": "train", "val": val}


def _split(argv: list[str], description: str, defaults: Mapping[str, str]) -> tuple[Path, Path, list[str]]:
    """The two paths, and the options with the defaults for those that are not given."""
    if len(argv) < 2 or any(word.startswith("-") for word in argv[:2]):
        usage = next(line.strip() for line in description.splitlines() if line.strip().startswith("python "))
        raise UserError(f"usage: {usage}")
    options = argv[2:]
    given = {word.partition("=")[0] for word in options}
    for name in OWN_OPTIONS:
        if name in given:
            raise UserError(f"{name} is not an option here: the two paths say where images come from and betons go")
    source, out = (Path(at_home(word)) for word in argv[:2])
    return source, out, [f"{name}={value}" for name, value in defaults.items() if name not in given] + options


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made a folder: {error.strerror}") from error
