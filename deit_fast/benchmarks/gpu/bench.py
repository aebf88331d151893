"""Measures the peak rates of a GPU, and how much of them our kernels and training reach: `deit-fast bench gpu`."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

from deit_fast.benchmarks.gpu.ceilings import ceilings
from deit_fast.benchmarks.gpu.chart import gpu_png
from deit_fast.benchmarks.gpu.decode import SIZES, check_pixels, decode_rates
from deit_fast.benchmarks.gpu.host import host_seconds
from deit_fast.benchmarks.gpu.kernels import kernel_times
from deit_fast.benchmarks.gpu.lines import line_of
from deit_fast.benchmarks.gpu.parts import Part, Results, run_apart
from deit_fast.benchmarks.gpu.runs import run_rates
from deit_fast.benchmarks.gpu.steps import choice_rates, step_rate
from deit_fast.benchmarks.gpu.updates import update_times
from deit_fast.benchmarks.result import described
from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.data.fetch.local import open_here
from deit_fast.data.load.compile_ahead import ON_GPU, compile_ahead
from deit_fast.plan.placement import measured, named, training_rate, with_placement
from deit_fast.record.picture import picture_to_write
from deit_fast.record.run import write_bytes, write_json
from deit_fast.train.dist import World, choose_device, world_size_of_environment

MODELS = ("deit_small_patch16_224", "deit_base_patch16_224", "deit_tiny_patch16_224", "resnet50")
_RUN = MODELS[:2]  # from a beton
_CHOICES_OF = MODELS[0]  # the model on which kernels of a step are compared
LIMIT_SECONDS = 480.0
_RESERVE_SECONDS = 60.0  # nothing is begun later than this before the limit
_PART_SECONDS = 240.0  # the longest that a part may take


def bench_gpu(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench gpu`: what `gpu_parts` lists, each printed as it ends, and written to --out with all before it.

    Parts that the machine cannot do are skipped, with the reason; so are parts that would begin after 7 of 8 minutes. A part
    that fails costs only itself: the next ones go on, in another process if need be. With --out or --bench.chart the picture
    of `chart.gpu_png` is drawn.
    """
    try:
        device = choose_device("cuda")
    except UserError as error:
        print(f"skipped: {error}")
        return {"results": {"skipped": str(error)}, **described(config)}
    if world_size_of_environment() > 1:
        raise UserError("bench gpu: measures one GPU; start it without torchrun")
    chart = picture_to_write("bench.chart", config.bench.chart, config.out)
    facts = described(config)
    shown: Results = {}

    def report(name: str, result: dict[str, Any]) -> None:
        shown[name] = result
        if config.out:  # what was measured stays, whatever becomes of the rest
            write_json(config.out, {"results": shown, **facts})
        print(line_of(name, result, shown.get("ceilings", {})), flush=True)

    end = time.monotonic() + LIMIT_SECONDS
    run_apart(
        gpu_parts,
        config,
        device.type,
        begin_before=end - _RESERVE_SECONDS,
        end_before=end,
        part_seconds=_PART_SECONDS,
        report=report,
    )
    result = {"results": shown, **facts}
    if chart is not None:
        write_bytes(chart, gpu_png(result))
        print(f"wrote {chart}")
    return result


def gpu_parts(config: RunConfig, world: World, results: Results, models: tuple[str, ...] = MODELS) -> dict[str, Part]:
    """All that is measured, what is wanted most first."""
    device = world.device
    parts: dict[str, Part] = {
        "ceilings": lambda: ceilings(device),
        "compile": lambda: compile_seconds(config),
        "kernels": lambda: kernel_times(config, device, results.get("ceilings", {})),
        "pixels": lambda: check_pixels(config, device),
        **{f"decode {size}": functools.partial(decode_rates, config, device, size) for size in SIZES},
        "host": lambda: host_seconds(config, device),
    }
    parts |= {f"run {name}": functools.partial(run_rates, config, world, name) for name in models if name in _RUN}
    parts["places"] = lambda: placement_rates(config, world)
    parts["updates"] = lambda: update_times(config, device, results.get("ceilings", {}), models[0])
    parts |= {f"step {name}": functools.partial(step_rate, config, world, name) for name in models}
    return parts | (choice_rates(config, world, _CHOICES_OF) if _CHOICES_OF in models else {})


def compile_seconds(config: RunConfig) -> dict[str, Any]:
    """Seconds until the CPU's functions of all loaders are compiled, so that no later part waits for that."""
    if not config.data.train:
        raise UserError("data.train is not set: no beton to load")
    started = time.monotonic()
    compile_ahead(open_here(config.data, "train").paths[0], ON_GPU)
    return {"seconds": time.monotonic() - started}


def placement_rates(config: RunConfig, world: World) -> dict[str, Any]:
    """images_per_second of training the configuration's model from its beton with views made in each placement, and what the
    machine `lacks` for the others."""
    for option in ("train", "val"):
        if not getattr(config.data, option):
            raise UserError(f"data.{option} is not set: no beton to train from")
    check_training(config, 1)
    found = measured(with_placement(config, ("auto", "auto")), world)
    rates = {
        named(placement): training_rate(with_placement(config, placement), world) if math.isnan(rate) else rate
        for placement, rate in found.rates.items()
    }
    return {"images_per_second": rates, "lacks": {named(placement): lack for placement, lack in found.lacks.items()}}
