"""Takes the configuration of a run, gives what its GPU can do at most, and how much of that training gets."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.record.run import hardware, versions
from deit_fast.study.bench import measure_rates
from deit_fast.study.device_ceilings import ceilings
from deit_fast.study.device_kernels import kernel_times
from deit_fast.study.device_steps import model_config, step_rate
from deit_fast.train.dist import World, choose_device, joined_world
from deit_fast.train.trainer import Trainer

MODELS = ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "resnet50")
LIMIT_SECONDS = 480.0
_RESERVE_SECONDS = 60.0  # what is begun is ended: nothing is begun later than this before the limit

Part = Callable[[], dict[str, Any]]


def bench_gpu(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench gpu`: ceilings of the device, its kernels, then each of MODELS on synthetic batches and from a beton.

    Kernels are timed on 256 views at 224 pixels, beside the bytes that they have to move over the measured bandwidth.
    Steps are those of `bench step`, at data.batch_size and data.resolution, with the configuration's precision, optimiser and
    train.compile. End to end: from data.train, whose loader is measured alone too; the share of the time in which the
    device waits for data is 1 - both / compute. What the machine lacks is skipped, with its reason; so is
    what would begin after 7 of 8 minutes.
    """
    try:
        device = choose_device("cuda")
    except UserError as error:
        print(f"skipped: {error}")
        return _described(config, {"skipped": str(error)})
    with joined_world(device.type) as world:
        if world.world_size > 1:
            raise UserError("bench gpu: measures one GPU; start it without torchrun")
        parts = parts_of(config, world)
        return _described(config, run_parts(parts, time.monotonic() + LIMIT_SECONDS - _RESERVE_SECONDS))


def parts_of(config: RunConfig, world: World, models: tuple[str, ...] = MODELS) -> dict[str, Part]:
    """What is measured, in order."""
    parts: dict[str, Part] = {"ceilings": lambda: ceilings(world.device)}
    if world.device.type == "cuda":  # a simulated kernel's time says nothing
        parts["kernels"] = lambda: kernel_times(config.augment, world.device)
    for name in models:
        parts[f"step {name}"] = lambda name=name: step_rate(config, world, name)  # type: ignore[misc]
    for name in models:
        parts[f"run {name}"] = lambda name=name: run_rate(config, world, name)  # type: ignore[misc]
    return parts


def run_parts(parts: dict[str, Part], begin_before: float) -> dict[str, Any]:
    """The result of each part, printed as it comes, or {"skipped": reason}. begin_before: in time.monotonic()'s seconds."""
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
        print(line_of(name, results[name], results.get("ceilings", {})), flush=True)
    return results


def run_rate(config: RunConfig, world: World, name: str) -> dict[str, Any]:
    """Images per second of the loader alone, of steps alone, and of both, and the share of a step that waits for data."""
    config = model_config(config, name)
    for option in ("train", "val"):
        if not getattr(config.data, option):
            raise UserError(f"data.{option} is not set: no beton to train from")
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, log_every=config.bench.steps))
    check_training(config, world.world_size)
    trainer = Trainer(config, world)
    try:
        rates = measure_rates(trainer, config.bench.steps, config.bench.rounds)
    finally:
        trainer.close()
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    return {"images_per_second": medians, "rounds": rates, "waiting": max(0.0, 1 - medians["both"] / medians["compute"])}


def line_of(name: str, result: dict[str, Any], limits: dict[str, Any]) -> str:
    """A line of the table. limits: the device's ceilings, where they are known."""
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
    rate = result["images_per_second"]
    if name.startswith("run "):
        kinds = ", ".join(f"{kind} {value:,.0f}" for kind, value in rate.items())
        return f"{name:34} images/s: {kinds}; waiting for data {100 * result['waiting']:.1f} % of the time"
    line = f"{name:34} {rate['median']:10,.0f} images/s ({rate['min']:,.0f} to {rate['max']:,.0f})"
    if limits.get("multiply_adds_per_second"):
        bound = limits["multiply_adds_per_second"] / result["multiply_adds_per_image"]
        line += f", {100 * rate['median'] / bound:.0f} % of {bound:,.0f} by its multiply-adds"
    return f"{line}; first steps {result['first_steps_seconds']:.1f} s"


def _kernel_lines(result: dict[str, Any], limits: dict[str, Any]) -> str:
    lines = [f"kernels, {result['views']} views at {result['resolution']}, {result['dtype']}"]
    for name, row in result["kernels"].items():
        line = f"  {name:32} {1e3 * row['seconds']:10.3f} ms"
        if limits.get("bytes_per_second") and row["bytes"]:
            line += f", {1e3 * row['bytes'] / limits['bytes_per_second']:.3f} ms by its {row['bytes'] / 1e6:,.0f} MB"
        lines.append(line)
    return "\n".join(lines)


def _described(config: RunConfig, results: dict[str, Any]) -> dict[str, Any]:
    return {"results": results, "config": config.as_dict(), "hardware": hardware(), "versions": versions()}
