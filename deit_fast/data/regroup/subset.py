"""Keeps some classes, listed samples, or a share of each class of betons: `deit-fast subset`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import SubsetConfig, UserError, check_sections
from deit_fast.data.convert.output import output_path
from deit_fast.data.convert.sources.class_names import read_class_names
from deit_fast.data.format.files import read_file
from deit_fast.data.format.subset import stratified
from deit_fast.data.regroup.choice import Choice, these_samples
from deit_fast.data.regroup.joined import Joined, open_joined
from deit_fast.data.regroup.names import names_of
from deit_fast.data.regroup.new_beton import write_chosen


def subset_betons(config: SubsetConfig) -> dict[str, Any]:
    """Writes the beton of what the options choose, each among those that the one before chose; gives its manifest."""
    check_sections(subset=config)
    out = output_path("subset.out", config.out)
    if not config.classes and not config.samples and config.count is None and config.share is None:
        raise UserError("subset: nothing is chosen: want subset.classes, subset.samples, subset.count or subset.share")
    joined = open_joined("subset.betons", config.betons)
    is_chosen = np.ones(joined.num_samples, bool)
    classes = _class_numbers(joined, config.classes) if config.classes else None
    if classes is not None:
        is_chosen &= np.isin(joined.labels, classes)
    if config.samples:
        is_chosen &= _listed(joined, config)
    choice = _drawn(these_samples(joined, is_chosen), config)
    if classes is not None and config.labels == "anew":
        choice = _numbered_anew(choice, classes)
    made = {name: value for name, value in dataclasses.asdict(config).items() if name not in ("betons", "out")}
    return write_chosen(joined, choice, out, "subset", {"settings": made | {"classes": list(config.classes)}})


def _class_numbers(joined: Joined, wanted: Sequence[str]) -> NDArray[np.int64]:
    """Ascending numbers of the classes of these names, or of those in the file that is the only one. Raises UserError for a
    name that no class or more than one has."""
    names = read_class_names(Path(wanted[0]), "subset.classes") if len(wanted) == 1 and Path(wanted[0]).is_file() else wanted
    numbers = []
    for name in names:
        times = joined.classes.count(name)
        if times != 1:
            problem = "is no class" if times == 0 else f"is the name of {times} classes"
            raise UserError(f"subset.classes: {name!r} {problem} of {joined.betons[0].path}; want names of one class each")
        numbers.append(joined.classes.index(name))
    return np.unique(np.array(numbers, np.int64))


def _listed(joined: Joined, config: SubsetConfig) -> NDArray[np.bool_]:
    """Which of all samples (num_samples,) the file config.samples lists, by number or name, one a line."""
    try:
        lines = read_file(config.samples).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"subset.samples={config.samples}: cannot be read: {reason}; want a text file") from error
    words = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    is_chosen = np.zeros(joined.num_samples, bool)
    places: dict[str, list[int]] = {}
    if not all(word.isdecimal() for word in words.values()):
        for sample, name in enumerate(names_of(joined, config.source, "subset.samples")):
            places.setdefault(name, []).append(sample)
    for line, word in words.items():
        found = places.get(word, [int(word)] if word.isdecimal() else [])
        where = f"subset.samples={config.samples}: line {line}: {word!r}"
        if len(found) != 1:
            problem = f"is the name of {len(found)} images" if found else "is no name of an image in its source"
            raise UserError(f"{where} {problem}; want a name of one, or the number of a sample")
        if found[0] >= joined.num_samples:
            raise UserError(f"{where} is no sample; want 0 to {joined.num_samples - 1}")
        if is_chosen[found[0]]:
            raise UserError(f"{where} stands twice; want each sample once")
        is_chosen[found[0]] = True
    return is_chosen


def _drawn(choice: Choice, config: SubsetConfig) -> Choice:
    """So many of the chosen samples as config.count or config.share says, in proportion from each class."""
    num_samples = len(choice.samples)
    if config.count is not None and config.share is not None:
        raise UserError("subset.count and subset.share are both set: want one of them")
    count = num_samples if config.share is None else max(1, round(config.share * num_samples))
    count = count if config.count is None else config.count
    if count > num_samples:
        raise UserError(f"subset.count={count}: want at most the {num_samples} images to choose from")
    if count == num_samples:
        return choice
    kept = stratified(choice.labels.astype(np.int32), len(choice.classes), count, config.seed)
    return dataclasses.replace(choice, samples=choice.samples[kept], labels=choice.labels[kept])


def _numbered_anew(choice: Choice, classes: NDArray[np.int64]) -> Choice:
    """Labels as positions in the kept classes, which keep their order."""
    names = tuple(choice.classes[number] for number in classes)
    return Choice(choice.samples, np.searchsorted(classes, choice.labels), names)
