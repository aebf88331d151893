"""Measures the peak rates of a GPU, and how much of them training reaches: `deit-fast bench gpu`."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from deit_fast.benchmarks.bench import before_and_rates, measured_as
from deit_fast.benchmarks.gpu.ceilings import ceilings
from deit_fast.benchmarks.gpu.decode import decode_rates
from deit_fast.benchmarks.gpu.kernels import kernel_times
from deit_fast.benchmarks.gpu.steps import choice_rates, model_config, step_rate
from deit_fast.benchmarks.result import described
from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.plan.placement import PLACES, Places, measured, named, placed, training_rate, with_places
from deit_fast.train.dist import World, choose_device, joined_world
from deit_fast.train.trainer import Trainer

MODELS = ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "resnet50")
_CHOICES_OF = "deit_small_patch16_224"  # the model on which kernels of a step are compared
LIMIT_SECONDS = 480.0
_NUM_SHOWN = 3  # of the slowest kernels of a step
_RESERVE_SECONDS = 60.0  # what is begun is ended: nothing is begun later than this before the limit

Part = Callable[[], dict[str, Any]]


def bench_gpu(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench gpu`: ceilings of the device, its kernels and decoder, places, then MODELS, as docs/gpu.md lists them.

    Steps are those of `bench step`. Runs use data.train, in the fastest place if data.decode and augment.device are auto; the
    share of time in which the device waits for data is 1 - both / compute. Parts that the machine cannot do are skipped, with
    the reason; so are parts that would begin after 7 of 8 minutes.
    """
    try:
        device = choose_device("cuda")
    except UserError as error:
        print(f"skipped: {error}")
        return {"results": {"skipped": str(error)}, **described(config)}
    with joined_world(device.type) as world:
        if world.world_size > 1:
            raise UserError("bench gpu: measures one GPU; start it without torchrun")
        begin_before = time.monotonic() + LIMIT_SECONDS - _RESERVE_SECONDS
        results = run_parts(device_parts(config, world), begin_before)
        if "auto" in (config.data.decode, config.augment.device):
            config = with_places(config, _best_places(config, results["places"]))
        results |= run_parts(model_parts(config, world), begin_before, results["ceilings"])
        return {"results": results, **described(config)}


def device_parts(config: RunConfig, world: World) -> dict[str, Part]:
    """The parts that are measured before models, in order."""
    parts: dict[str, Part] = {"ceilings": lambda: ceilings(world.device)}
    if world.device.type == "cuda":  # a simulated kernel's time says nothing
        parts["kernels"] = lambda: kernel_times(config.augment, world.device)
    parts["decode"] = lambda: decode_rates(config, world.device)
    parts["places"] = lambda: place_rates(config, world)
    return parts


def model_parts(config: RunConfig, world: World, models: tuple[str, ...] = MODELS) -> dict[str, Part]:
    """Steps and runs of models, then steps of one model by other kernels."""
    steps: dict[str, Part] = {f"step {name}": functools.partial(step_rate, config, world, name) for name in models}
    runs = {f"run {name}": functools.partial(run_rate, config, world, name) for name in models}
    return steps | runs | (choice_rates(config, world, _CHOICES_OF) if _CHOICES_OF in models else {})


def place_rates(config: RunConfig, world: World) -> dict[str, Any]:
    """images_per_second of training the configuration's model from its beton with views made in each place, and what the
    machine `lacks` for other places."""
    _check_betons(config)
    found = measured(with_places(config, ("auto", "auto")), world)
    rates = {
        named(places): training_rate(with_places(config, places), world) if math.isnan(rate) else rate
        for places, rate in found.rates.items()
    }
    return {"images_per_second": rates, "lacks": {named(places): lack for places, lack in found.lacks.items()}}


def _best_places(config: RunConfig, result: dict[str, Any]) -> Places:
    """The fastest of the places that the configuration allows; on the CPU if none was measured."""
    rates = result.get("images_per_second", {})
    asked = config.data.decode, config.augment.device
    allowed = [
        places
        for places in PLACES
        if all(wanted in ("auto", place) for wanted, place in zip(asked, places, strict=True)) and named(places) in rates
    ]
    return max(allowed, key=lambda places: rates[named(places)], default=PLACES[0])


def run_parts(parts: dict[str, Part], begin_before: float, limits: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of each part, printed as it comes, or {"skipped": reason}.

    begin_before: in time.monotonic()'s seconds; limits: the device's peak rates, if they were measured before.
    """
    results: dict[str, Any] = {}
    for name, part in parts.items():
        if time.monotonic() > begin_before:
            results[name] = {"skipped": "no time left"}
        else:
            try:
                results[name] = part()
            except UserError as error:
                results[name] = {"skipped": str(error)}
            except torch.OutOfMemoryError:
                results[name] = {"skipped": "does not fit into the GPU's memory; try a smaller data.batch_size"}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        print(line_of(name, results[name], limits or results.get("ceilings", {})), flush=True)
    return results


def run_rate(config: RunConfig, world: World, name: str) -> dict[str, Any]:
    """Images per second of each of `bench.KINDS`, and the share of a step that waits for data."""
    config = model_config(config, name)
    _check_betons(config)
    trainer = Trainer(placed(measured_as(config), world)[0], world)
    try:
        rates = before_and_rates(trainer, config.bench.steps, config.bench.rounds)[1]
    finally:
        trainer.close()
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    return {"images_per_second": medians, "rounds": rates, "waiting": max(0.0, 1 - medians["both"] / medians["compute"])}


def _check_betons(config: RunConfig) -> None:
    for option in ("train", "val"):
        if not getattr(config.data, option):
            raise UserError(f"data.{option} is not set: no beton to train from")
    check_training(config, 1)


def line_of(name: str, result: dict[str, Any], limits: dict[str, Any]) -> str:
    """A line of the table. limits: the device's peak rates, if known."""
    if "skipped" in result:
        return f"{name:34} skipped: {result['skipped']}"
    if name == "ceilings":
        from_host = result["host_bytes_per_second"]
        return (
            f"{name:34} {result['bytes_per_second'] / 1e9:,.0f} GB/s read and written, "
            f"{2 * result['multiply_adds_per_second'] / 1e12:,.1f} TFLOP/s in bfloat16"
            + (f", {from_host / 1e9:,.1f} GB/s from the host" if from_host else "")
        )
    if name == "kernels":
        return _kernel_lines(result, limits)
    if name == "decode":
        rates = (f"{kind} {rate['median']:,.0f}" for kind, rate in result["views_per_second"].items())
        line = f"{name:34} views/s: {', '.join(rates)} ({result['num_workers']} threads)"
        return f"{line}; {result['lacks']}" if result["lacks"] else line
    rate = result["images_per_second"]
    if name == "places":
        lines = [f"{name:34} images/s of the configuration's model, by where views are made"]
        lines += [f"  {place:40} {value:,.0f}" for place, value in rate.items()]
        return "\n".join(lines + [f"  {place:40} left out: {lack}" for place, lack in result["lacks"].items()])
    if name.startswith("run "):
        kinds = ", ".join(f"{kind} {value:,.0f}" for kind, value in rate.items())
        return f"{name:34} images/s: {kinds}; waiting for data {100 * result['waiting']:.1f} % of the time"
    line = f"{name:34} {rate['median']:10,.0f} images/s ({rate['min']:,.0f} to {rate['max']:,.0f})"
    if limits.get("multiply_adds_per_second"):
        bound = limits["multiply_adds_per_second"] / result["multiply_adds_per_image"]
        line += f", {100 * rate['median'] / bound:.0f} % of {bound:,.0f} by its multiply-adds"
    if limits.get("bytes_per_second") and result["bytes_per_image"]:
        line += f", of about {limits['bytes_per_second'] / result['bytes_per_image']:,.0f} by what it moves"
    line += f"; first steps {result['first_steps_seconds']:.1f} s"
    slowest = (f"{'':4}{100 * row['share']:5.1f} % {row['name'][:90]}" for row in result["slowest"][:_NUM_SHOWN])
    return "\n".join([line, *slowest])


def _kernel_lines(result: dict[str, Any], limits: dict[str, Any]) -> str:
    lines = [f"kernels, {result['views']} views at {result['resolution']}, {result['dtype']}"]
    for name, row in result["kernels"].items():
        line = f"  {name:32} {1e3 * row['seconds']:10.3f} ms"
        if limits.get("bytes_per_second") and row["bytes"]:
            line += f", {1e3 * row['bytes'] / limits['bytes_per_second']:.3f} ms by its {row['bytes'] / 1e6:,.0f} MB"
        lines.append(line)
    return "\n".join(lines)
