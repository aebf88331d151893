"""Facts about a bench that stand beside its figures: configuration, hardware, versions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from deit_fast.config import RunConfig, UserError, in_words
from deit_fast.record.run import hardware, versions
from deit_fast.train.learner import Learner


def described(config: RunConfig) -> dict[str, Any]:
    """Facts that every kind of bench records beside its figures."""
    return {"kind": config.bench.kind, "config": config.as_dict(), "hardware": hardware(), "versions": versions()}


def check_names(option: str, given: Sequence[object], known: Collection[str] = ()) -> None:
    """Raises UserError where a list of an option of bench has a name that is not known, or one twice. known: empty: all are."""
    text = f"bench.{option}={','.join(map(str, in_words(f'bench.{option}', tuple(given))))}"
    for name in given:
        if known and name not in known:
            raise UserError(f"{text}: {name} is not known; want some of {', '.join(known)}")
    if len(set(given)) < len(given):
        raise UserError(f"{text}: names one twice; want each once")


def setting_of(learner: Learner) -> dict[str, Any]:
    """Settings that decide how long a training step takes."""
    config, world, amp = learner.config, learner.world, learner.step.amp
    return {
        "model": config.model.name,
        "batch_size": config.data.batch_size,
        "world_size": world.world_size,
        "resolution": config.data.resolution,
        "num_parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        "precision": "float32" if amp == "off" else amp,
        "memory_format": "channels_last" if config.train.channels_last else "contiguous",
        "compile": config.train.compile,
        "device": world.device.type,
        "threads": torch.get_num_threads(),
    }


def title(result: dict[str, Any]) -> str:
    """The first line of a table, from a result that has a setting and is described."""
    side, ranks = result["resolution"], result["world_size"]
    return (
        f"{result['model']}, {result['num_parameters']:,} parameters, batch {result['batch_size']} at {side}x{side}, "
        f"{result['precision']}, {result['memory_format']}, compile {result['compile']}, "
        f"{ranks} rank{'s' * (ranks > 1)}, {device_of(result)}"
    )


def device_of(result: dict[str, Any]) -> str:
    """The measured device in words, from a result that has `device`, `threads` and `hardware`."""
    if result["device"] == "cuda":
        name: str = result["hardware"]["gpus"][0]["name"]
        return name
    return f"{result['threads']} threads of {result['hardware']['cpu']}"
