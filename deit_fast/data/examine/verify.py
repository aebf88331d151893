"""Finds damage in a beton, in structure, digests and decoding, and differences from the source: `deit-fast verify`."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deit_fast.config import UserError, VerifyConfig, check_sections
from deit_fast.cores import num_cores
from deit_fast.data.convert.progress import Progress
from deit_fast.data.convert.workers import map_unordered
from deit_fast.data.examine.against import Comparison, known_source, open_comparison
from deit_fast.data.examine.check import Answer, Checker
from deit_fast.data.format import layout
from deit_fast.data.format.beton import Beton, open_beton, read_manifest
from deit_fast.data.format.beton_list import listed_betons
from deit_fast.data.format.beton_set import open_set
from deit_fast.data.format.files import printable
from deit_fast.data.format.index import Index, read_index, structure_digest
from deit_fast.data.format.manifest import SAMPLES_PER_BLOCK, Totals
from deit_fast.data.format.part import Part
from deit_fast.data.format.structure import Problem, Region, regions_of_zeros, structure_problems

_SAMPLES_AT_ONCE = 64
_PRINTED_PROBLEMS = 20
# entries of the manifest that are compared with the beton's own values
_COUNTS = ("images_per_class", "num_jpeg", "num_raw", "stored_bytes", "width", "height", "mean_pixels")


def verify_beton(config: VerifyConfig) -> dict[str, Any]:
    """Checks a beton with all cores, prints the checks and the problems found, and returns them as a dictionary.

    Checks several betons one after the other, also behind a damaged one, and whether they can be joined; the dictionary then
    has `betons`, the result of each. Raises UserError with the number of problems if there are any; for a single beton at once
    if the structure is damaged.
    """
    listed = listed_betons(_named_betons(config), "verify.beton")
    if len(listed) == 1:
        return _verify_one(dataclasses.replace(config, beton=str(listed[0].path)))
    results, damaged = [], []
    for path, _ in listed:
        try:
            results.append(_verify_one(dataclasses.replace(config, beton=str(path))))
        except UserError as error:
            print(printable(str(error)))
            damaged.append(path)
    if damaged:
        raise UserError(
            f"{config.beton}: {len(damaged):,} of {len(listed):,} betons have problems, the first {damaged[0]}; see above"
        )
    open_set(config.beton, "verify.beton")
    return {"num_samples": sum(result["num_samples"] for result in results), "betons": results}


def _verify_one(config: VerifyConfig) -> dict[str, Any]:
    result = check_beton(config)
    problems = result["problems"]
    for problem in problems[:_PRINTED_PROBLEMS]:
        print(printable(problem["what"] if problem["sample"] is None else f"{problem['name']}: {problem['what']}"))
    if len(problems) > _PRINTED_PROBLEMS:
        print(f"… and {len(problems) - _PRINTED_PROBLEMS:,} more")
    print(_summary(result))
    if problems:
        named = [problem["sample"] for problem in problems if problem["sample"] is not None]
        which = f", the first with sample {named[0]}" if named else ""
        raise UserError(f"{config.beton}: {len(problems):,} problem(s) found{which}; see above")
    return result


def check_beton(config: VerifyConfig) -> dict[str, Any]:
    """The result of verify_beton for one beton. Raises UserError only if that or the source cannot be opened, or a worker dies.

    `problems`: a list of {sample, name, what}, sample None if it concerns none; `checked`: whether each kind of check was
    possible; `compared`: number of samples compared with the source, by bytes of a new conversion and by pixels.
    """
    started = time.perf_counter()
    check_sections(verify=config)
    beton = open_beton(Path(_named_betons(config)))
    manifest = read_manifest(beton.path)
    index, problems, is_ours = _index(beton, manifest)
    problems += structure_problems(beton, index, manifest, is_ours)
    comparison = None
    if config.against:
        comparison, found = open_comparison(config.against, beton, manifest)
        problems += found
    num_workers = config.num_workers or num_cores()
    with Checker(beton, index, comparison) as checker, Progress(beton.num_samples) as progress:
        totals = Totals()
        num_checked = 0
        compared = {"converted_again": 0, "pixels": 0}
        num_bytes = 0
        regions = [] if is_ours and index is None else regions_of_zeros(beton, index)
        behind: list[tuple[int | None, Problem]] = []  # problems after an image, with the number of its sample
        for answer in _in_order(_answers(checker, num_workers, regions)):
            if answer.region is not None:
                behind += [(answer.region.sample, problem) for problem in answer.problems]
            else:
                problems += answer.problems
            num_bytes += answer.num_bytes
            compared["converted_again"] += answer.num_converted
            compared["pixels"] += answer.num_decoded
            num_checked += len(answer.rows)
            if manifest is not None and not problems:  # without a manifest, labels have no bound
                totals.add(Part(0, answer.rows, b"", []))
            progress.add(len(answer.rows), answer.num_bytes, len(answer.problems))
        # after an image whose recorded size was damaged lies the rest of it
        damaged = {problem.sample for problem in problems} - {None}
        problems += [problem for sample, problem in behind if sample not in damaged]
        if manifest is not None and not problems:  # otherwise they follow from the other problems
            problems += _manifest_problems(beton, index, manifest, totals)
        named = _named(problems, beton, manifest, comparison)
    seconds = time.perf_counter() - started
    return {
        "beton": str(beton.path),
        "num_samples": beton.num_samples,
        "num_checked": num_checked,
        "problems": named,
        "num_bytes": num_bytes,
        "seconds": round(seconds, 3),
        "images_per_second": round(num_checked / seconds, 1),
        "num_workers": num_workers,
        "checked": _checked(beton, index, manifest, is_ours) | {"source": comparison is not None},
        "compared": compared if config.against else None,
    }


def _named_betons(config: VerifyConfig) -> str:
    if not config.beton:
        raise UserError("verify.beton is not set: want the beton to check")
    return config.beton


def _checked(beton: Beton, index: Index | None, manifest: dict[str, Any] | None, is_ours: bool) -> dict[str, bool]:
    """Which checks were possible on the beton alone."""
    return {
        "structure": True,
        "decoding": True,
        "digests of samples": index is not None,
        "tiles": index is not None,
        "zeros between images": beton.field_names == tuple(layout.FIELDS) and not (is_ours and index is None),
        "digests in the manifest": index is not None and _digests(manifest) is not None,
        "counts in the manifest": manifest is not None,
    }


def _digests(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """The manifest's digests; None if it has none."""
    digests = (manifest or {}).get("digests")
    return digests if isinstance(digests, dict) else None


def _index(beton: Beton, manifest: dict[str, Any] | None) -> tuple[Index | None, list[Problem], bool]:
    """The index (None if unreadable), its problems, and whether the beton should have one because we wrote it."""
    try:
        index = read_index(beton)
    except UserError as error:
        return None, [Problem(None, str(error))], True
    if index is None and _digests(manifest) is not None:
        return None, [Problem(None, "the beton has no index, and its manifest says that it had one")], True
    return index, [], index is not None


def _answers(checker: Checker, num_workers: int, regions: list[Region]) -> Iterator[Answer]:
    """Answers about all samples and regions, in any order; computed in this process if num_workers is 1."""
    num_samples = checker.beton.num_samples
    step = max(1, min(_SAMPLES_AT_ONCE, -(-num_samples // (4 * num_workers))))
    ranges = [range(first, min(first + step, num_samples)) for first in range(0, num_samples, step)]
    requests: Iterable[range | Region] = [*ranges, *regions]
    if num_workers == 1:
        return (checker.check(request, lambda sample: None) for request in requests)
    return map_unordered(requests, min(num_workers, len(ranges)), checker.check, lambda sample: f"sample {sample}")


def _in_order(answers: Iterable[Answer]) -> Iterator[Answer]:
    """Yields the answers about samples in the order of the samples, because digests over several samples need it."""
    waiting: dict[int, Answer] = {}
    following = 0
    for answer in answers:
        if not len(answer.rows):
            yield answer
            continue
        waiting[answer.first] = answer
        while following in waiting:
            ready = waiting.pop(following)
            following += len(ready.rows)
            yield ready


def _manifest_problems(beton: Beton, index: Index | None, manifest: dict[str, Any], totals: Totals) -> Iterator[Problem]:
    """Finds differences between manifest and beton; its digests cover what those of single samples do not."""
    facts = totals.facts(beton.num_classes) | {"file_bytes": beton.path.stat().st_size}
    names = [*_COUNTS, "file_bytes", *(["num_tiles"] if index is not None else [])]
    for name in names:
        if name in manifest and manifest[name] != facts[name]:
            said, is_now = (json.dumps(content)[:100] for content in (manifest[name], facts[name]))
            yield Problem(None, f"the manifest says {name} {said}, it is {is_now}")
    digests = _digests(manifest)
    if digests is None or index is None:
        return
    if digests.get("structure") != structure_digest(beton.path, beton.num_samples, index.data_end):
        yield Problem(None, "all but its images is not what was written: the digest in the manifest differs")
    blocks, wanted = facts["digests"]["blocks"], digests.get("blocks")
    if not isinstance(wanted, list) or len(wanted) != len(blocks) or digests.get("samples_per_block") != SAMPLES_PER_BLOCK:
        yield Problem(None, f"the manifest has not the digests of {len(blocks)} blocks of {SAMPLES_PER_BLOCK} samples")
        return
    for number, (block, said) in enumerate(zip(blocks, wanted, strict=True)):
        if block != said:
            first, last = number * SAMPLES_PER_BLOCK, min((number + 1) * SAMPLES_PER_BLOCK, beton.num_samples) - 1
            yield Problem(
                None, f"samples {first} to {last} are not those that were written: their digest in the manifest differs"
            )


def _named(
    problems: list[Problem], beton: Beton, manifest: dict[str, Any] | None, comparison: Comparison | None
) -> list[dict[str, Any]]:
    """The problems as JSON entries: first those without a sample, then one per sample, in order."""
    if not problems:
        return []
    lines: list[dict[str, Any]] = [
        {"sample": None, "name": "", "what": problem.what} for problem in problems if problem.sample is None
    ]
    of_sample: dict[int, list[str]] = {}
    for problem in problems:
        if problem.sample is not None:
            of_sample.setdefault(problem.sample, []).append(problem.what)
    source = comparison or known_source(beton, manifest)
    for sample, found in sorted(of_sample.items()):
        label = int(beton.labels[sample])
        words = [f"label {label}"]
        words += [beton.classes[label]] if beton.classes is not None else []
        words += [source.name(sample)] if source is not None else []
        lines.append({"sample": sample, "name": f"sample {sample} ({', '.join(words)})", "what": "; ".join(found)})
    if comparison is None and source is not None:
        source.close()
    return lines


def _summary(result: dict[str, Any]) -> str:
    possible = [kind for kind, was_possible in result["checked"].items() if was_possible]
    impossible = [kind for kind, was_possible in result["checked"].items() if not was_possible and kind != "source"]
    lines = [
        f"checked {result['beton']}: {result['num_checked']:,} images, {result['num_bytes'] / 1e6:,.1f} MB in "
        f"{result['seconds']:,.1f} s, {result['images_per_second']:,.0f} images/s, {len(result['problems']):,} problems",
        f"checked: {', '.join(possible)}",
    ]
    if impossible:
        lines.append(f"not possible, since there is no index or manifest that would say: {', '.join(impossible)}")
    if result["compared"] is not None:
        compared = result["compared"]
        lines.append(
            f"compared with the source: {compared['converted_again']:,} by converting again, byte for byte; "
            f"{compared['pixels']:,} by Pillow's pixels"
        )
    return "\n".join(lines)
