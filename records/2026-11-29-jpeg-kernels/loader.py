"""What the loader's thread does for a batch of 256 views beside copying bytes: by steps, against a driver that does nothing.

`PYTHONPATH=. python records/2026-11-29-jpeg-kernels/loader.py BETON`

The bytes are gathered once and not again; PyTorch's copies and fillings, which only queue work on a device, are left out.
"""

import statistics
import sys
import time

import pytest
import torch

from deit_fast.benchmarks.gpu.batch import Source
from deit_fast.benchmarks.gpu.host import whole_batch
from deit_fast.config import RunConfig
from deit_fast.data.load.gpu_decode import RaggedDecoder
from deit_fast.data.load.gpu_views import GpuViews
from deit_fast.kernels.cuda import driver
from tests.kernels.cuda.stand_in import stand_in

STEPS = "locate", "plan", "decode_there", "draw_mix", "targets", "finish"
seconds = {name: [] for name in STEPS}
gathered = {}


def timed(name):
    step = getattr(GpuViews, name)

    def call(*arguments):
        started = time.perf_counter()
        result = step(*arguments)
        seconds[name].append(time.perf_counter() - started)
        return result

    return call


def gather_once(decoder, host, *arguments, gather=RaggedDecoder._gather):
    if host not in gathered:
        gathered[host] = gather(decoder, host, *arguments)
    return gathered[host]


with pytest.MonkeyPatch.context() as patch:
    stand_in(patch, lambda *_: 0)
    patch.setattr(driver, "check_device", lambda: None)
    patch.setattr(RaggedDecoder, "_gather", gather_once)
    patch.setattr(torch.Tensor, "zero_", lambda tensor: tensor)
    patch.setattr(torch.Tensor, "copy_", lambda tensor, *_, **__: tensor)
    for name in STEPS:
        patch.setattr(GpuViews, name, timed(name))
    source = Source(RunConfig().changed({"data.train": sys.argv[1]}), 256)
    batch = whole_batch(source, source.ids(256, 1), torch.device("cpu"))
    for _ in range(50):
        batch(0)
    for values in seconds.values():
        values.clear()
    whole = [batch(0) for _ in range(1000)]
print(f"a batch: {1e6 * statistics.median(whole):.0f} us, at least {1e6 * min(whole):.0f}")
print(", ".join(f"{name} {1e6 * statistics.median(values):.0f}" for name, values in seconds.items()))
