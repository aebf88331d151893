"""Measures images per second of conversion, ours beside stock FFCV's, interleaved: `deit-fast bench write`."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from deit_fast.benchmarks.interleave import interleaved, spread
from deit_fast.benchmarks.result import described
from deit_fast.benchmarks.rivals.stock_writer import write_with_stock_ffcv
from deit_fast.config import RunConfig, SourceConfig, WriteConfig
from deit_fast.cores import num_cores
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.write import write_beton
from deit_fast.output import silent
from deit_fast.record.text_table import text_table

_RESIZED_SIDE = 256  # pixels, the longest side of the second comparison


def bench_write(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench write`: whole conversions with the options of write, and with a longest side of 256 pixels.

    The time runs from the listing of the source to the synced file; ours includes manifest and digests. The uncounted first
    conversions bring the source into the page cache. The betons go to the system's temporary folder and are removed.
    """
    num_workers = config.write.num_workers or num_cores()
    write = dataclasses.replace(config.write, num_workers=num_workers, resume=False, shards=None, shard_gb=None, only="")
    kinds = {
        "as configured": write,
        f"longest side {_RESIZED_SIDE}": dataclasses.replace(write, max_resolution=_RESIZED_SIDE, resize_side="longest"),
    }
    results = {}
    for name, settings in kinds.items():
        results[name] = _compare(config.source, settings, config.bench.rounds)
        print(_table(name, results[name]))
    return {
        "comparisons": results,
        "num_workers": num_workers,
        **described(config),
    }


def _compare(source: SourceConfig, write: WriteConfig, rounds: int) -> dict[str, Any]:
    num_bytes: dict[str, int] = {}
    num_samples = 0

    def seconds_of(kind: str) -> float:
        nonlocal num_samples
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "set.beton"
            started = time.perf_counter()
            with silent():
                if kind == "ffcv":
                    write_with_stock_ffcv(open_source(source), out, write, write.num_workers or 1)
                else:
                    num_samples = write_beton(source, dataclasses.replace(write, out=str(out)))["num_samples"]
            seconds = time.perf_counter() - started
            num_bytes[kind] = out.stat().st_size
        return seconds

    seconds = interleaved({kind: functools.partial(seconds_of, kind) for kind in ("deit_fast", "ffcv")}, rounds)
    rates = {kind: [num_samples / each for each in measured] for kind, measured in seconds.items()}
    medians = {kind: statistics.median(each) for kind, each in rates.items()}
    return {
        "num_images": num_samples,
        "images_per_second": medians,
        "ratio": medians["deit_fast"] / medians["ffcv"],
        "rounds": rates,
        "file_bytes": num_bytes,
    }


def _table(name: str, result: dict[str, Any]) -> str:
    rows = [
        (kind, f"{rate:,.0f} images/s", f"({spread(result['rounds'][kind])})", f"{result['file_bytes'][kind] / 1e6:,.1f} MB")
        for kind, rate in result["images_per_second"].items()
    ]
    lines = [*text_table(rows, "<><>"), f"{result['ratio']:.2f} times stock FFCV's"]
    return "\n  ".join([f"{name}: {result['num_images']:,} images", *lines])
