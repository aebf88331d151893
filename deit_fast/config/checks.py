"""Checks options against their ranges and against each other, and names the first that does not fit."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin

from deit_fast.config.data import AugmentConfig, DataConfig, is_mixing
from deit_fast.config.declared import Declared, declared, set_kind
from deit_fast.config.learning import OWN_OPTIMISERS, TIMM_PREFIX, OptimConfig
from deit_fast.config.options import Options, UserError
from deit_fast.config.run import RunConfig
from deit_fast.config.stages import STAGE_LENGTHS, STAGE_OPTIONS, config_of_stage, stage_ends

_OF_TRAINING = ("data", "augment", "model", "distil", "optim", "schedule", "train", "run", "budget")


def check_ranges(config: RunConfig, is_used: Callable[[str], bool] = lambda path: True) -> None:
    """Raises UserError for the first option `section.name` that is_used and outside its range: what, got, wanted."""
    for path in declared():
        if is_used(path):
            section, name = path.split(".")
            check_option(path, getattr(getattr(config, section), name))


def check_option(path: str, value: Any) -> None:
    """Raises UserError where a value, of the option's type, is outside the range of `section.name`, which need not have one."""
    one = declared()[path]
    if one.within is None or (one.word and value is None):
        return
    numbers = tuple(number for number in value if number is not None) if isinstance(value, tuple) else (value,)
    is_finite = all(abs(number) < math.inf for number in numbers)
    if not is_finite or not one.within.holds(numbers if isinstance(value, tuple) else value):
        raise UserError(f"{path}={value}: want {one.within.words}{_or_word(one)}")


def check_loading(data: DataConfig, augment: AugmentConfig, *, rank: int, world_size: int, seed: int = 0) -> None:
    """Raises UserError for the first argument of a loader that the command line would refuse too."""
    check_sections(data=data, augment=augment)
    if not _is_of(int, seed) or not 0 <= seed < 2**63:
        raise UserError(f"seed={seed!r}: want an integer, 0 to 2**63 - 1")
    if not _is_of(int, world_size) or world_size < 1:
        raise UserError(f"world_size={world_size!r}: want an integer, 1 or more")
    if not _is_of(int, rank) or not 0 <= rank < world_size:
        raise UserError(f"rank={rank!r}: want an integer, 0 to {world_size - 1}, below world_size")


def check_sections(**sections: Options) -> None:
    """Raises UserError for the first option of sections made in Python that the command line would refuse too."""
    for section, options in sections.items():
        for own in dataclasses.fields(options):  # type: ignore[arg-type]
            path, value = f"{section}.{own.name}", getattr(options, own.name)
            one = declared()[path]
            if not _is_of(one.hint, value):
                raise UserError(f"{path}={value!r}: want {_words_of(one.kind)}{_or_word(one)}")
            check_option(path, value)


def _or_word(one: Declared) -> str:
    return f", or {one.word}" if one.word else ""


def _is_of(hint: Any, value: Any) -> bool:
    """Whether a value has the type of an option's field; paths count as text, NumPy's numbers as numbers."""
    kind = set_kind(hint)
    if value is None:
        return kind is not hint
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if kinds[1] is ...:
            return isinstance(value, tuple) and all(_is_of(kinds[0], item) for item in value)
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_of, kinds, value))
    if get_origin(kind) is dict:
        return isinstance(value, dict)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, (str, os.PathLike) if kind is str else kind)


def _words_of(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        if others == [...]:
            return "a tuple of texts" if first is str else "a tuple of dictionaries"
        return f"a tuple of {len(get_args(kind))} numbers"
    names = {int: "an integer", float: "a number", bool: "True or False", dict: "a dictionary"}
    return names.get(get_origin(kind) or kind, "text")


def check_training(config: RunConfig, world_size: int) -> None:
    """Raises UserError for a bad option of a training run, and if sections contradict each other on world_size ranks."""
    check_sections(**{section: getattr(config, section) for section in _OF_TRAINING})
    data, augment = config.data, config.augment
    for name in ("train", "val"):
        if not getattr(data, name):
            raise UserError(f"data.{name} is not set: want the path of a beton, made by `deit-fast write`")
    if config.train.resume and not config.run.dir:
        raise UserError("train.resume: run.dir is not set: want the folder of the run to continue")
    _check_views(config, world_size)
    check_placement(data, augment)
    check_budget(config)
    check_optimiser(config.optim)
    if data.dtype == "uint8":
        raise UserError("data.dtype=uint8: this trainer needs normalised images; want float32, float16 or bfloat16")
    if data.start_resolution is not None and data.start_resolution > data.resolution:
        raise UserError(
            f"data.start_resolution={data.start_resolution}: want at most data.resolution={data.resolution}, or off"
        )
    warmup_epochs = config.schedule.warmup_epochs
    if warmup_epochs >= config.train.epochs:
        raise UserError(f"schedule.warmup_epochs={warmup_epochs:g}: want fewer than train.epochs={config.train.epochs}")
    check_stages(config, world_size)
    distil = config.distil
    for name in ("labels", "teacher_weights"):
        if getattr(distil, name) and not distil.is_taught:
            raise UserError(
                f"distil.{name}={getattr(distil, name)}: distil.kind={distil.kind} uses no teacher; want distil.kind=hard or "
                f"soft, or distil.{name} left out"
            )
    if distil.kind == "cosub" and config.train.mode == "eval":
        raise UserError(
            "distil.kind=cosub: train.mode=eval has no stochastic depth, so that both submodels would be the whole model; want "
            "train.mode=train, or distil.kind=off"
        )
    if config.model.patch_dropout and config.train.mode == "eval":
        raise UserError(
            f"model.patch_dropout={config.model.patch_dropout:g}: train.mode=eval leaves out no patch; want train.mode=train, "
            "or model.patch_dropout=0"
        )
    if config.train.accumulate > data.batch_size:
        raise UserError(f"train.accumulate={config.train.accumulate}: want at most data.batch_size={data.batch_size}")


def _check_views(config: RunConfig, world_size: int) -> None:
    """Raises UserError if the views of a run or one of its stages contradict its batch or its loss."""
    data, augment = config.data, config.augment
    if is_mixing(augment) and augment.mix_mode == "pair" and data.batch_size % 2:
        raise UserError(
            f"data.batch_size={data.batch_size}: augment.mix_mode=pair needs an even batch on each of the {world_size} "
            "rank(s), else one view stays unmixed; want an even number, or another mode"
        )
    if config.train.loss == "bce" and config.train.bce_threshold == 0 and augment.label_smoothing > 0:
        raise UserError(
            f"augment.label_smoothing={augment.label_smoothing:g}: it makes every target positive, and train.loss=bce counts "
            "targets above train.bce_threshold=0 as 1; want label smoothing 0, a higher threshold, or off"
        )


def check_stages(config: RunConfig, world_size: int) -> None:
    """Raises UserError for the first stage of schedule.stages that cannot be, or has no epoch."""
    stages = config.schedule.stages
    if stages and config.data.start_resolution is not None:
        raise UserError(
            f"data.start_resolution={config.data.start_resolution}: schedule.stages say the resolution; want one of them"
        )
    for number, stage in enumerate(stages, start=1):
        try:
            _check_stage(config, stage, world_size)
        except UserError as error:
            raise UserError(f"schedule.stages: stage {number}: {error}") from None
    if len({"epochs" in stage for stage in stages}) > 1:
        raise UserError("schedule.stages: some have `epochs` and some have not; want it in all of them, or in none")
    ends = stage_ends(config)
    for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False), start=1):
        if begin == end:
            raise UserError(
                f"train.epochs={config.train.epochs}: stage {number} of schedule.stages gets no whole epoch; want more epochs, "
                "or a longer stage"
            )


def _check_stage(config: RunConfig, stage: dict[str, Any], world_size: int) -> None:
    for key, value in stage.items():
        if key in STAGE_LENGTHS:
            if not _is_of(float, value) or not 0 < value < math.inf:
                raise UserError(f"{key}={value!r}: want a number above 0")
        elif key not in STAGE_OPTIONS:
            raise UserError(f"{key} is the same in all stages; want {', '.join((*STAGE_LENGTHS, *STAGE_OPTIONS))}")
    if len(set(STAGE_LENGTHS) & set(stage)) > 1:
        raise UserError("has both `epochs` and `share`; want one of them")
    own = config_of_stage(config, stage)
    check_sections(data=own.data, augment=own.augment)
    if not own.data.train:
        raise UserError("data.train is empty; want the path of a beton, or leave it out")
    if own.data.resolution > config.data.resolution:
        raise UserError(
            f"data.resolution={own.data.resolution}: want at most {config.data.resolution}, the run's, at which it is evaluated"
        )
    _check_views(own, world_size)


def check_budget(config: RunConfig) -> None:
    """Raises UserError if a budget lacks an option that it needs."""
    budget, price = config.budget, config.run.dollars_per_hour
    if budget.dollars is not None and price is None:
        raise UserError(f"budget.dollars={budget.dollars:g}: run.dollars_per_hour is not set; want the price per hour")
    if budget.until:
        target_top1(budget.until)


def target_top1(until: str, option: str = "budget.until") -> float:
    """The top-1 in percent in the value of an option like budget.until. Raises UserError if there is none."""
    name, _, value = until.partition("=")
    try:
        top1 = float(value)
    except ValueError:
        top1 = math.nan
    if name != "top1" or not 0 < top1 <= 100:
        raise UserError(f"{option}={until}: want top1=PERCENT, above 0 and up to 100")
    return top1


def check_optimiser(optim: OptimConfig) -> None:
    """Raises UserError for a name that is neither ours nor marked as timm's, and for timm's options with one of ours."""
    if optim.name.startswith(TIMM_PREFIX):
        return
    if optim.name not in OWN_OPTIMISERS:
        near = difflib.get_close_matches(optim.name, OWN_OPTIMISERS, 1, cutoff=0)[0]
        raise UserError(
            f"optim.name={optim.name}: want one of {', '.join(OWN_OPTIMISERS)}, or {TIMM_PREFIX}NAME for one of timm's; "
            f"nearest: {near}"
        )
    if optim.options:
        raise UserError(f"optim.options: are for {TIMM_PREFIX}NAME, and optim.name={optim.name}; leave them out")


def check_placement(data: DataConfig, augment: AugmentConfig) -> None:
    """Raises UserError if other options contradict data.decode and augment.device."""
    if data.decode == "gpu" and augment.device == "cpu":
        raise UserError(
            f"data.decode={data.decode}: images decoded on the GPU are augmented there; want augment.device={data.decode} too"
        )
    if data.decode == "gpu" and data.dct_scaling:
        raise UserError(f"data.dct_scaling: not possible with data.decode={data.decode}; want data.decode=cpu, or leave it out")
    if augment.device == "gpu" and data.dtype == "uint8":
        raise UserError(
            f"data.dtype=uint8: not possible with augment.device={augment.device}; want augment.device=cpu, or another dtype"
        )


def warnings_of(config: RunConfig, global_batch_size: int) -> list[str]:
    """Settings of this configuration with which users are known to have lost accuracy or runs; one line each."""
    found = []
    is_deit_b = config.model.name.startswith("deit_base") and not config.model.weights and config.train.epochs >= 100
    if is_deit_b and (global_batch_size <= 512 or config.schedule.warmup_epochs >= 10):
        found.append(
            f"DeiT-B with {global_batch_size} views in a step and {config.schedule.warmup_epochs:g} warm-up epochs: with 512 "
            "or with 10, users ended at 78 to 79 % instead of 81.8 (facebookresearch/deit, issues 40, 63, 195, 233); the "
            "published run had 1024 and 5"
        )
    if config.distil.kind == "cosub" and not config.model.drop_path:
        found.append("distil.kind=cosub with model.drop_path=0: both submodels are the whole model, at twice the time")
    return found
