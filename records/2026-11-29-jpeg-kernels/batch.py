"""What a batch of 256 views is for the device, counted exactly, and what it costs the host, without a GPU.

`PYTHONPATH=. python records/2026-11-29-jpeg-kernels/batch.py BETON`
"""

import json
import sys

import numpy as np
import pytest
import torch

from deit_fast.benchmarks.gpu.batch import Source, send
from deit_fast.benchmarks.gpu.host import host_seconds
from deit_fast.benchmarks.gpu.kernels import DECODE, VIEWS, amounts, kernel_times
from deit_fast.benchmarks.gpu.lines import line_of
from deit_fast.benchmarks.gpu.symbols import count_symbols
from deit_fast.config import RunConfig
from deit_fast.kernels.cuda import driver
from tests.kernels.cuda.stand_in import stand_in

config = RunConfig().changed({"data.train": sys.argv[1], "bench.rounds": 9})
source = Source(config, 256)
(ids,) = source.ids(256, 1)
batch = send(source, source.planned(ids), torch.device("cpu"))
symbols = count_symbols(batch.encoded, batch.jpegs, batch.tiles)
tiles = np.percentile(symbols[symbols > 0], [1, 25, 50, 75, 99]).round().astype(int).tolist()
host = host_seconds(config, torch.device("cpu"))
print(line_of("host", host, {}))
with pytest.MonkeyPatch.context() as patch:  # a driver that does nothing
    stand_in(patch, lambda *_: 0)
    patch.setattr(driver, "check_device", lambda: None)
    kernels = kernel_times(config, torch.device("cpu"), {}, repeats=500)["kernels"]
launches = {name: kernels[name]["queue_seconds"] for name in (*DECODE[1:], *VIEWS)}
print(f"launches: {1e6 * sum(launches.values()):.0f} us")
found = {"batch": amounts(batch, symbols), "percentiles_of_tiles": tiles, "host": host, "launch_seconds": launches}
print(json.dumps(found, indent=2))
