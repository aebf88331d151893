"""Measures images per second of inference of timm's models: `deit-fast bench eval`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from deit_fast.benchmarks.gpu.needs import ForwardNeeds, forward_needs
from deit_fast.benchmarks.inference import PRECISIONS, Inference, lack_of
from deit_fast.benchmarks.result import described, device_of
from deit_fast.benchmarks.step import NUM_CLASSES
from deit_fast.config import ModelConfig, RunConfig, UserError
from deit_fast.model.names import stated, timm_model
from deit_fast.train.dist import joined_world
from deit_fast.train.learner import check_compiler

# what DeiT's paper compares, at the resolutions that it states, and CaiT
MODELS = (
    *("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "deit_base_patch16_384"),
    *("deit_tiny_distilled_patch16_224", "deit_small_distilled_patch16_224"),
    *("deit_base_distilled_patch16_224", "deit_base_distilled_patch16_384"),
    *("vit_base_patch16_384", "vit_large_patch16_384"),
    *("resnet18", "resnet50", "resnet101", "resnet152", "regnety_040", "regnety_080", "regnety_160"),
    *(f"tf_efficientnet_b{number}" for number in range(8)),
    *("cait_xxs24_224", "cait_s24_224", "cait_s24_384"),
)
_HEAD = f"{'model':34}{'':5}{'batch':>6}{'side':>5}{'params':>9}{'mult-adds':>10}{'images/s':>12}"


@dataclass(frozen=True)
class Candidate:
    """A model to measure, at a resolution."""

    model: ModelConfig
    resolution: int
    needs: ForwardNeeds

    def facts(self) -> dict[str, Any]:
        """The facts about the model itself in a row."""
        return {
            "model": self.model.name,
            "resolution": self.resolution,
            "num_parameters": self.needs.num_parameters,
            "multiply_adds": self.needs.multiply_adds,
        }


def bench_eval(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench eval`: images per second of models in evaluation mode, a row for each precision and batch size.

    A model repeatedly classifies one batch of noise on the device, with weights and images in the row's dtype and, with
    train.channels_last, in that memory format; train.compile compiles it. There are bench.rounds measurements, each of about
    bench.seconds (less if bench.limit_seconds requires it) and of at least one batch. Two batches, the first of which compiles,
    come first and do not count. Models are measured one after the other, since memory does not hold all. Images have
    bench.resolution pixels a side, or what timm states for the model's weights; data.resolution is ignored. The configuration's
    model options apply only to the model of that name.

    `rows` has the measurements, `skipped` what was not measured, with the reason, `lacks` the precisions missing on the device.
    Raises UserError for options that do not fit, before anything is measured.
    """
    check_lists(config)
    found = candidates(config)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    with joined_world(config.train.device) as world:
        if world.world_size > 1:
            raise UserError("bench eval: measures one device; start it without torchrun")
        check_compiler(config.train.compile, world.device)
        setting = {"device": world.device.type, "threads": torch.get_num_threads(), **described(config)}
        print(f"inference, medians of {config.bench.rounds} rounds, compile {config.train.compile}, {device_of(setting)}")
        precisions = config.bench.precisions or (("fp32", "bf16") if world.device.type == "cuda" else ("fp32",))
        lacks = {precision: lack for precision in precisions if (lack := lack_of(precision, world.device))}
        for precision, lack in lacks.items():
            print(f"{precision}: left out: {lack}")
        print(_HEAD)
        for candidate in found:
            inference = Inference(config, candidate.model, candidate.resolution, candidate.needs, world.device)
            for row in inference.rows([precision for precision in precisions if precision not in lacks]):
                row = {**candidate.facts(), **row}
                (skipped if "reason" in row else rows).append(row)
                print(line_of(row), flush=True)
    return {"rows": rows, "skipped": skipped, "lacks": lacks, **setting}


def check_lists(config: RunConfig) -> None:
    """Raises UserError if one of bench's lists has a repeated or unknown name."""
    bench = config.bench
    for name in bench.precisions:
        if name not in PRECISIONS:
            given = ",".join(bench.precisions)
            raise UserError(f"bench.precisions={given}: {name} is not known; want some of {', '.join(PRECISIONS)}")
    lists: dict[str, tuple[Any, ...]] = {
        "models": bench.models, "batch_sizes": bench.batch_sizes, "precisions": bench.precisions
    }  # fmt: skip
    for option, items in lists.items():
        if len(set(items)) < len(items):
            raise UserError(f"bench.{option}={','.join(map(str, items))}: names one twice; want each once")
    if not bench.batch_sizes:
        raise UserError("bench.batch_sizes is empty: want numbers of images, as in --bench.batch_sizes=1,64")


def candidates(config: RunConfig) -> list[Candidate]:
    """The models to measure, in order. Raises UserError for the first that timm does not know or that cannot be built."""
    names = config.bench.models or MODELS
    for name in names:
        timm_model(name, "bench.models")
    return [_candidate(config, name) for name in names]


def _candidate(config: RunConfig, name: str) -> Candidate:
    model = config.model if name == config.model.name else ModelConfig(name=name)
    resolution = config.bench.resolution or max(stated(name).input_size[1:])
    try:
        needs = forward_needs(model, num_classes=NUM_CLASSES, resolution=resolution, option="bench.models")
    except UserError as error:
        # what builds models knows a run's option alone
        raise UserError(f"bench.models: {name}: {str(error).replace('data.resolution=', 'bench.resolution=')}") from None
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"bench.models: {name} does not take images of {resolution}x{resolution}: {reason}") from None
    return Candidate(model, resolution, needs)


def line_of(row: dict[str, Any]) -> str:
    """A line of the table."""
    size = row["batch_size"] or "most"
    line = f"{row['model']:34}{row['precision']:5}{size:>6}{row['resolution']:>5}"
    line += f"{row['num_parameters'] / 1e6:7.1f} M{row['multiply_adds'] / 1e9:8.2f} G"
    if "reason" in row:
        return f"{line}     skipped: {row['reason']}"
    rate = row["images_per_second"]
    digits = 0 if rate["median"] >= 100 else 1 + max(0, -math.floor(math.log10(rate["median"])))
    shown = [f"{rate[name]:,.{digits}f}" for name in ("median", "min", "max")]
    return f"{line}{shown[0]:>12}   ({shown[1]} to {shown[2]}; first batch {row['first_batch_seconds']:.2f} s)"
