"""CPU seconds of whole conversions, ours beside stock FFCV's, for a busy machine: `python cpu_seconds.py ROUNDS PHOTOS...`.

Those of a process and its workers, user's and system's; wall times beside them.
"""

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from deit_fast.benchmarks.rivals.stock_writer import write_with_stock_ffcv
from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.write import write_beton
from deit_fast.output import silent


def cpu_seconds():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def measured(kind, source, config):
    """(CPU seconds, wall seconds) of a conversion."""
    with tempfile.TemporaryDirectory() as folder, silent():
        out = Path(folder) / "set.beton"
        before, started = cpu_seconds(), time.perf_counter()
        if kind == "ours":
            write_beton(source, WriteConfig(out=str(out), num_workers=2, **config))
        else:
            write_with_stock_ffcv(open_source(source), out, WriteConfig(out=str(out), **config), 2)
        wall = time.perf_counter() - started
        for process in multiprocessing.active_children():  # FFCV leaves its workers to themselves
            process.join()
        return cpu_seconds() - before, wall


def main():
    for path in sys.argv[2:]:
        for name, config in {"as is": {}, "256": {"max_resolution": 256, "resize_side": "longest"}}.items():
            found = {"ours": [], "ffcv": []}
            for number in range(int(sys.argv[1]) + 1):  # the first is not counted
                for kind, each in found.items():
                    seconds = measured(kind, SourceConfig(path=path), config)
                    each += [seconds] if number else []
            cpu, wall = ({kind: statistics.median(v[i] for v in each) for kind, each in found.items()} for i in (0, 1))
            print(
                f"{Path(path).name}, {name}: CPU seconds ours {cpu['ours']:.2f}, stock FFCV {cpu['ffcv']:.2f}: "
                f"{cpu['ffcv'] / cpu['ours']:.2f} times; wall {wall['ours']:.2f}, {wall['ffcv']:.2f}: "
                f"{wall['ffcv'] / wall['ours']:.2f} times",
                flush=True,
            )


main()
