"""The lines that `bench gpu` prints of each part's result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deit_fast.benchmarks.gpu.kernels import TARGET_SECONDS

_NUM_SHOWN = 3  # of the slowest kernels of a step
Result = dict[str, Any]


def line_of(name: str, result: Result, limits: Result) -> str:
    """Of a part's result; limits: the device's `ceilings`, if known.

    A result that has no line is said to have none: that ends no bench.
    """
    try:
        return _line_of(name, result, limits)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return f"{name:34} measured, but cannot be shown: {error!r}"


def _line_of(name: str, result: Result, limits: Result) -> str:
    for kind in ("skipped", "failed"):
        if kind in result:
            return f"{name:34} {kind}: {result[kind]}"
    title = f"{name:34} "
    if name.startswith("run "):
        return title + _of_run(result)
    if name.startswith("step "):
        return title + _of_step(result, limits)
    if name.startswith("decode "):
        return title + _of_decode(result)
    return title + _OF_PART[name](result)


def _of_ceilings(result: Result) -> str:
    line = (
        f"{result['bytes_per_second'] / 1e9:,.0f} GB/s read and written, "
        f"{2 * result['multiply_adds_per_second'] / 1e12:,.1f} TFLOP/s in bfloat16"
    )
    if result["host_bytes_per_second"]:
        line += f", {result['host_bytes_per_second'] / 1e9:,.1f} GB/s from the host"
    if result["cycles_per_second"]:
        line += f", {result['num_multiprocessors']} multiprocessors at {result['cycles_per_second'] / 1e9:.2f} GHz"
    return line


def _of_kernels(result: Result) -> str:
    lines = [
        f"{result['views']} views at {result['resolution']}, {result['dtype']}: {result['photographs']} photographs, "
        f"{result['encoded_bytes'] / 1e6:.1f} MB, {result['tiles']:,} tiles, {result['symbols'] / 1e6:.2f} million symbols "
        f"({result['symbols_of_longest_tile']:,} in the longest tile), {result['blocks']:,} blocks, "
        f"{result['pixels'] / 1e6:.1f} million pixels; {result['damaged']} found damaged, {result['left']} left to the CPU"
    ]
    for name, row in result["kernels"].items():
        line = _of_row(name, row)
        if name == "decode and views" and "failed" not in row:
            line += f"; wanted: {1e6 * TARGET_SECONDS:.0f} us"
        if name == "decode" and "failed" not in row:
            line += f"; {result['photographs'] / row['seconds']:,.0f} photographs/s"
        lines.append(line)
    return "\n".join(lines)


def _of_row(name: str, row: Result) -> str:
    """Of a kernel, or several in a row."""
    if "failed" in row:
        return f"  {name:32} failed: {row['failed']}"
    line = f"  {name:32} {1e6 * row['seconds']:10.1f} us, queued in {1e6 * row['queue_seconds']:.1f} us"
    if row["bounds"]:
        bounds = ", ".join(f"{kind} {1e6 * seconds:.1f}" for kind, seconds in row["bounds"].items())
        share = max(row["bounds"].values()) / row["seconds"]
        line += f"; at least, by {bounds}; {100 * share:.0f} % of that speed"
    if row["needs"]:
        line += f"; {row['needs']['bytes'] / row['seconds'] / 1e9:,.0f} GB/s"
    return line


def _of_updates(result: Result) -> str:
    return "\n".join([f"of {result['model']}", *(_of_row(name, row) for name, row in result["updates"].items())])


def _of_pixels(result: Result) -> str:
    lines = ["decoded on the device against the CPU"]
    for name, found in result.items():
        line = f"  {name:32} equal {found['equal']:,}, different {found['different']:,}, left to the CPU {found['left']:,}"
        lines.append(f"{line} (greatest difference {found['greatest']})" if found["different"] else line)
    return "\n".join(lines)


def _of_decode(result: Result) -> str:
    lines = [
        f"photographs/s, {result['bytes_per_photograph'] / 1e3:.0f} kB each, {result['size']} in a batch, "
        f"{result['repeats']} views of each, {result['num_workers']} threads"
    ]
    if result["lacks"]:
        lines.append(f"  {result['lacks']}")
    for name, rate in result["photographs_per_second"].items():
        ratios = (
            f"{ratio:.1f} times {kind.partition(' / ')[2]}"
            for kind, ratio in result["ratios"].items()
            if kind.startswith(f"{name} / ")
        )
        alone = (f"by the time of the device alone {result['alone'][name]:,.0f}",) if name in result["alone"] else ()
        lines.append("; ".join([f"  {name:32} {rate['median']:10,.0f}", *ratios, *alone]))
    lines += [f"  {name:32} failed: {line}" for name, line in result["failed_decoders"].items()]
    if sum(result["refused"].values()):
        lines.append(f"  refused: {', '.join(f'{name} {count:,}' for name, count in result['refused'].items())}")
    return "\n".join(lines)


def _of_host(result: Result) -> str:
    lines = [
        f"of {result['views']} views, {result['photographs']:.0f} photographs, {result['bytes'] / 1e6:.1f} MB, "
        f"{result['num_workers']} threads"
    ]
    for name, seconds in result["seconds"].items():
        of_each = seconds["median"] / result["photographs"]
        line = f"  {name:32} {1e6 * seconds['median']:10.1f} us, {1e6 * of_each:.2f} us a photograph"
        lines.append(f"{line}, {result['over_copy'][name]:.2f} times the copy")
    lines += [f"  {name:32} failed: {line}" for name, line in result["failed_stages"].items()]
    return "\n".join(lines)


def _of_placements(result: Result) -> str:
    lines = ["images/s of the configuration's model, by where views are made"]
    lines += [f"  {placement:40} {rate:,.0f}" for placement, rate in result["images_per_second"].items()]
    return "\n".join(lines + [f"  {placement:40} left out: {lack}" for placement, lack in result["lacks"].items()])


def _of_run(result: Result) -> str:
    rates = result["images_per_second"]
    lines = [f"images/s: synthetic {rates['synthetic']:,.0f}; first steps {result['first_steps_seconds']:.1f} s"]
    for road, share in result["shares"].items():
        lines.append(
            f"  {road:32} {rates[road]:10,.0f}, {100 * share['median']:.1f} % of synthetic; {result['threads'][road]} threads, "
            f"the loader alone {result['loaders'][road]:,.0f}"
        )
    lines += [f"  {road:32} left out: {lack}" for road, lack in result["lacks"].items()]
    lines += [f"  {road:32} failed: {line}" for road, line in result["failed_roads"].items()]
    lines += [f"  its slowest kernels: failed: {result['failed_profile']}"] if result["failed_profile"] else []
    return "\n".join([*lines, *_slowest(result)])


def _of_step(result: Result, limits: Result) -> str:
    rate = result["images_per_second"]
    line = f"{rate['median']:10,.0f} images/s ({rate['min']:,.0f} to {rate['max']:,.0f})"
    if limits.get("multiply_adds_per_second"):
        bound = limits["multiply_adds_per_second"] / result["multiply_adds_per_image"]
        line += f", {100 * rate['median'] / bound:.0f} % of {bound:,.0f} by its multiply-adds"
    if limits.get("bytes_per_second") and result["bytes_per_image"]:
        line += f", of about {limits['bytes_per_second'] / result['bytes_per_image']:,.0f} by what it moves"
    return "\n".join([f"{line}; first steps {result['first_steps_seconds']:.1f} s", *_slowest(result)])


def _slowest(result: Result) -> list[str]:
    return [f"{'':4}{100 * row['share']:5.1f} % {row['name'][:90]}" for row in result["slowest"][:_NUM_SHOWN]]


_OF_PART: dict[str, Callable[[Result], str]] = {
    "ceilings": _of_ceilings,
    "compile": lambda result: f"the CPU's functions in {result['seconds']:.1f} s",
    "kernels": _of_kernels,
    "pixels": _of_pixels,
    "host": _of_host,
    "updates": _of_updates,
    "places": _of_placements,
}
