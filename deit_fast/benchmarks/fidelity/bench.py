"""Measures how far our views are from those of Pillow, torchvision and timm: `deit-fast bench fidelity`."""

from __future__ import annotations

import math
import platform
import tempfile
import textwrap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import features

from deit_fast.benchmarks.fidelity import batches, crops, device_jpegs, jpegs, operations
from deit_fast.benchmarks.fidelity.material import Material, Pair, Row, random_material, source_material
from deit_fast.benchmarks.fidelity.older_pillow import rows_first
from deit_fast.benchmarks.result import described
from deit_fast.config import RunConfig, UserError, in_words
from deit_fast.cores import num_cores
from deit_fast.record.picture import file_to_write
from deit_fast.record.run import versions, write_bytes
from deit_fast.record.text_table import text_table


@dataclass(frozen=True)
class Section:
    """Rows whose differences are in the same unit, as a table shows them: so many units in 1; and a remark below it."""

    title: str
    rows: tuple[Row, ...]
    unit: str = "grey levels"
    units_in_1: float = 1.0
    remark: str = ""


_OF_OPERATIONS = (
    "Half of the images get the magnitude of DeiT's recipe (9, standard deviation 0.5), the others one uniform "
    "on 0 to 10; operations that have an increasing form are in that form three times of four. Where an affine operation "
    "differs, interpolation was done in float32 here and in float64 in Pillow, and the results lie on both sides of an integer."
)
_OF_POLICIES = (
    "Both sides make the crop, then each step, for themselves. A later operation can enlarge a difference of one level: "
    "Solarize inverts from a threshold on, Equalize spreads levels. What is bounded here is therefore the share that differs."
)
_OF_FLOATS = (
    "The last digits differ, since float32 is rounded in another order: between 2 and 4 its steps are 0.24 of these units."
)
_OF_NVJPEG = (
    "With data.decode=gpu, which is not the default. What a decoder refuses is left out. nvJPEG, beside it for comparison, "
    "enlarges chroma in its own way."
)
_OF_PASSES = (
    "A resize has two passes, and rounds to whole levels between them. Ours goes along rows first, as Pillow up to 12 does. "
    "Pillow 13 takes the order that costs less: for tall images columns first, which changes up to two levels. There the "
    "references resize rows first, in two steps."
)
SECTIONS = (
    Section("JPEG decoding", jpegs.ROWS),
    Section("JPEG decoding on a GPU", device_jpegs.ROWS, remark=_OF_NVJPEG),
    Section("Crops and resizing", crops.ROWS, remark=_OF_PASSES),
    Section("Operations of policies", operations.ROWS, remark=_OF_OPERATIONS),
    Section("Whole policies, on random resized crops", operations.POLICIES, remark=_OF_POLICIES),
    Section("Normalising and mixing, float32", batches.ROWS, "units of 1e-6", 1e6, _OF_FLOATS),
)
_COLUMNS = ("operation", "reference", "views", "max", "mean", "differ", "wanted")
_MOST_DIGITS = 12
_PAGE_WIDTH = 127


def bench_fidelity(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench fidelity`: differences of each operation from its reference, given the same images and random draws.

    Images are bench.images random ones, or as many boxes of those of source.path; train.seed decides all that is random.
    Prints the table, and writes it as Markdown to bench.markdown if that is given. Raises UserError, in one line, if a
    difference is larger than is wanted; nothing is written then.
    """
    count = config.bench.images
    if not config.source.path and (count is None or count < 2):
        got = in_words("bench.images", count)
        raise UserError(f"bench.images={got}: want at least 2 random images, or images in source.path")
    path = file_to_write("bench.markdown", config.bench.markdown) if config.bench.markdown else None
    num_workers = num_cores()
    with tempfile.TemporaryDirectory(prefix="deit_fast-bench-") as scratch:
        how = (config.train.seed, num_workers)
        if config.source.path:
            material = source_material(Path(scratch), config.source, count, *how)
        else:
            assert count is not None
            material = random_material(Path(scratch), count, *how)
        if len(material.images) < 2:
            raise UserError(f"source.path={config.source.path}: want at least 2 images")
        sections: list[dict[str, Any]] = []
        for section in SECTIONS:
            found = [measure(row, material) for row in section.rows]
            sections.append({"title": section.title, "unit": section.unit, "rows": found})
            print("\n".join(_text_table(section, found)), flush=True)
    rows = [row for section in sections for row in section["rows"]]
    exceeded = [row for row in rows if not row["is_met"]]
    if exceeded:
        names = f"{exceeded[0]['operation']} (against {exceeded[0]['reference']})"
        others = {1: "", 2: ", and so does 1 other"}.get(len(exceeded), f", and so do {len(exceeded) - 1} others")
        raise UserError(f"{names} differs by more than is wanted{others}: see the table above")
    result = {
        "sections": sections,
        "num_images": len(material.images),
        "num_jpegs": len(material.jpegs),
        **described(config),
        "versions": _versions(),
        "machine": platform.machine(),
    }
    if path:
        write_bytes(path, _page(result, config).encode())
        print(f"table: {path}")
    return result


def measure(row: Row, material: Material) -> dict[str, Any]:
    """What a row comes to, or what this machine lacks. Its random numbers depend on the seed and its name alone."""
    lack = row.lack()
    if lack:
        return {"operation": row.name, "reference": row.reference, "lack": lack, "is_met": True}
    with rows_first():
        found = _differences(row.pairs(material, material.generator(zlib.crc32(row.name.encode()))))
    is_met = row.max_wanted is None or found["max"] <= row.max_wanted
    is_met &= row.share_wanted is None or found["share_different"] <= row.share_wanted
    wanted = {"max_wanted": row.max_wanted, "share_wanted": row.share_wanted}
    return {"operation": row.name, "reference": row.reference, **found, **wanted, "is_met": is_met}


def _differences(pairs: Iterator[Pair]) -> dict[str, Any]:
    num_views, num_values, num_different, largest, total = 0, 0, 0, 0.0, 0.0
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        exact = np.int16 if ours.dtype == np.uint8 else np.float64
        difference = np.abs(np.subtract(ours, theirs, dtype=exact))
        num_views += 1 if ours.dtype == np.uint8 else len(ours)
        num_values += difference.size
        num_different += int(np.count_nonzero(difference))
        # not a number is no small difference
        largest = max(largest, float(np.nan_to_num(difference.max(), nan=math.inf)))
        total += float(difference.sum(dtype=np.float64))
    return {
        "num_views": num_views,
        "num_values": num_values,
        "max": largest,
        "mean": total / max(num_values, 1),
        "share_different": num_different / max(num_values, 1),
    }


def _plain(number: float, digits: int = 2) -> str:
    """Two digits that count, never with an exponent; whole numbers as they are."""
    if number == int(number):
        return f"{int(number)}"
    decimals = min(max(0, digits - 1 - math.floor(math.log10(number))), _MOST_DIGITS)
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _cells(section: Section, found: dict[str, Any]) -> tuple[str, ...]:
    if "lack" in found:
        return (found["operation"], found["reference"], "–", "–", "–", "–", f"not measured: {found['lack']}")
    if found["share_wanted"] is not None:
        wanted = f"differ ≤ {_plain(100 * found['share_wanted'])} %"
    elif found["max_wanted"] is None:
        wanted = "–"
    else:
        most = _plain(found["max_wanted"] * section.units_in_1)
        wanted = "0" if found["max_wanted"] == 0 else f"max ≤ {most}"
    share = f"{_plain(100 * found['share_different'])} %" if found["share_different"] else "0"
    figures = (_plain(found[name] * section.units_in_1) for name in ("max", "mean"))
    return (found["operation"], found["reference"], f"{found['num_views']:,}", *figures, share, wanted)


def _text_table(section: Section, rows: list[dict[str, Any]]) -> list[str]:
    cells = [(*_cells(section, row), "" if row["is_met"] else "MORE THAN WANTED") for row in rows]
    lines = text_table([(*_COLUMNS, ""), *cells], "<<>>>>><")
    return [f"{section.title} ({section.unit})", *(f"  {line}" for line in lines)]


def _versions() -> dict[str, str | None]:
    """Of what decides on pixels."""
    found = versions()
    libjpeg = features.version("libjpeg_turbo")
    names = ("deit_fast", "Pillow", "torchvision", "timm", "torch", "numba", "numpy", "python")
    return {**{name: found[name] for name in names}, "Pillow's libjpeg-turbo": libjpeg}


def _command(config: RunConfig) -> str:
    defaults, words = RunConfig(), ["deit-fast bench fidelity"]
    for section, name in (
        ("source", "path"), ("source", "kind"), ("source", "split"), ("source", "classes"), ("source", "subset"),
        ("source", "seed"), ("bench", "images"), ("train", "seed"), ("bench", "markdown"),
    ):  # fmt: skip
        value = getattr(getattr(config, section), name)
        if value != getattr(getattr(defaults, section), name):
            words.append(f"--{section}.{name}={value}")
    return " ".join(words)


def _images_in_words(result: dict[str, Any], config: RunConfig) -> str:
    if config.source.path:
        return (
            f"{result['num_images']:,} boxes, up to 320 pixels wide and high, cut out of the {result['num_jpegs']:,} images in "
            f"`{config.source.path}`, and the JPEGs there"
        )
    return (
        f"{result['num_images']:,} random ones of 32 to 320 pixels a side, half of them like photographs, a quarter smooth, a "
        "quarter noise, and JPEGs of them (quality 50 to 98; 4:2:0, 4:2:2 and 4:4:4; some progressive)"
    )


def _page(result: dict[str, Any], config: RunConfig) -> str:
    """The tables in Markdown; the same for the same seed, images and versions."""
    libraries = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    what = (
        "Each operation is given the same image as its reference (Pillow, torchvision or timm) and the same random draws: box, "
        f"magnitude, sign, order, lambda. The results are subtracted. Images are {_images_in_words(result, config)}. *max* and "
        "*mean* are of the absolute difference, over all values of all views; *differ* is the share of values that are not "
        "equal; *wanted* is what the command insists on: it fails if more differs. That random draws are distributed as timm's "
        "is what the tests check, not these tables."
    )
    made = f"Seed {config.train.seed}; {libraries}; {result['machine']}. Made by"
    lines = ["# Fidelity: how far views are from Pillow's and timm's", "", _wrapped(what), "", _wrapped(made), ""]
    lines += ["```sh", _command(config), "```"]
    for section, measured in zip(SECTIONS, result["sections"], strict=True):
        lines += ["", f"## {section.title}", "", f"*max* and *mean* in {section.unit}.", ""]
        lines += [f"| {' | '.join(_COLUMNS)} |", "|---|---|--:|--:|--:|--:|--:|"]
        lines += [f"| {' | '.join(_cells(section, row))} |" for row in measured["rows"]]
        lines += ["", _wrapped(section.remark)] if section.remark else []
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _PAGE_WIDTH, break_long_words=False, break_on_hyphens=False)
