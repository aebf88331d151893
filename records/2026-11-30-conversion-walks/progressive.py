"""Times the reading and the writing of progressive photographs of 500x375: `python progressive.py PHOTOS [NUMBER]`."""

import sys
import time
from pathlib import Path

import numpy as np

from deit_fast.data.convert.transcode import read_header, read_progressive
from deit_fast.data.convert.transcode.header import PROGRESSIVE
from deit_fast.data.convert.transcode.tile_writer import Scratch, TileWriter

ROUNDS = 9
scratch = Scratch()
writer = TileWriter(scratch)
least = []
for file in sorted(Path(sys.argv[1]).rglob("*.jpg")):
    encoded = file.read_bytes()
    header = read_header(encoded)
    if (
        header.process != PROGRESSIVE
        or {header.width, header.height} != {500, 375}
        or len(least) == int((sys.argv[2:] or [40])[0])
    ):
        continue
    times = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        found = read_progressive(encoded, header, scratch)
        is_read = time.thread_time()
        writer.from_coefficients(found)
        times.append((is_read - started, time.thread_time() - is_read))
    least.append(np.min(times, axis=0))
read, write = 1000 * np.mean(least, axis=0)
print(f"{len(least)} photographs; ms of the processor, least of {ROUNDS}, mean: read {read:.3f}, write {write:.3f}")
