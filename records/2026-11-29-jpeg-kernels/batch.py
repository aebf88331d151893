"""What a batch of 256 views is for the device, counted exactly, and what it costs the host, without a GPU: `batch.py BETON`."""

import json
import sys

import numpy as np
import torch

from deit_fast.benchmarks.gpu.batch import Gatherer, Source
from deit_fast.benchmarks.gpu.host import host_seconds
from deit_fast.benchmarks.gpu.kernels import amounts
from deit_fast.benchmarks.gpu.lines import line_of
from deit_fast.benchmarks.gpu.symbols import count_symbols
from deit_fast.config import RunConfig

config = RunConfig().changed({"data.train": sys.argv[1], "bench.rounds": 9})
source = Source(config, 256)
(ids,) = source.ids(256, 1)
gatherer = Gatherer(source.images, source.kind, num_workers=source.num_workers, is_pinned=False)
batch = gatherer.gather(source.planned(ids), source.side)
symbols = count_symbols(batch.encoded.numpy(), batch.jpegs, batch.tiles)
tiles = np.percentile(symbols[symbols > 0], [1, 25, 50, 75, 99]).round().astype(int).tolist()
host = host_seconds(config, torch.device("cpu"))
print(line_of("host", host, {}))
print(json.dumps({"batch": amounts(batch, symbols), "percentiles_of_tiles": tiles, "host": host}, indent=2))
