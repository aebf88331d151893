"""Converts photographs by two copies of the package in turn: `python before_and_after.py BEFORE AFTER ROUNDS PHOTOS...`.

Each copy has a process of its own, whose first conversion does not count. Prints medians of wall seconds and of the processor's
seconds, and whether the betons are the same, byte for byte.
"""

import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def serve() -> None:
    from deit_fast.config import SourceConfig, WriteConfig
    from deit_fast.data.convert.write import write_beton
    from deit_fast.output import silent

    def processor_seconds() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    for line in sys.stdin:
        photos, side = line.split()
        size = {"max_resolution": int(side), "resize_side": "longest"} if side != "0" else {}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "set.beton"
            started, used = time.perf_counter(), processor_seconds()
            with silent():
                write_beton(SourceConfig(path=photos), WriteConfig(out=str(out), num_workers=2, **size))
            seconds = time.perf_counter() - started, processor_seconds() - used
            print(*seconds, hashlib.sha256(out.read_bytes()).hexdigest(), flush=True)


def main() -> None:
    copies, rounds = sys.argv[1:3], int(sys.argv[3])
    servers = [
        subprocess.Popen(
            [sys.executable, __file__, "serve"], env=os.environ | {"PYTHONPATH": copy}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for copy in copies
    ]  # fmt: skip
    for photos in sys.argv[4:]:
        for side in (0, 256):
            found = []
            for _ in range(rounds + 1):
                answers = []
                for server in servers:
                    print(photos, side, file=server.stdin, flush=True)
                    answers.append(server.stdout.readline().split())
                found.append(answers)
            same = len({answer[2] for answers in found for answer in answers}) == 1
            for number, name in enumerate(("wall", "processor")):
                before, after = (statistics.median(float(answers[of][number]) for answers in found[1:]) for of in (0, 1))
                what = f"{Path(photos).name}, {f'longest side {side}' if side else 'as they are'}, {name}"
                print(f"{what:40s} {before:.3f} s before, {after:.3f} after, {before / after:.2f} times; same bytes: {same}")
    for server in servers:
        server.stdin.close()
        server.wait()


serve() if sys.argv[1:] == ["serve"] else main()
