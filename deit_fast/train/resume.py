"""Refuses to resume a checkpoint with options or files that would make it a different run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deit_fast.config import Decides, RunConfig, UserError, in_words
from deit_fast.record.run import read_json
from deit_fast.train.dist import World

Digests = Mapping[str, Mapping[str, str]]  # of what a file holds, by the option that names it, and what is digested


def resumes(config: RunConfig) -> bool:
    """Whether a session resumes the run in its folder: if asked to, or if torchrun restarts its ranks.

    Raises UserError if torchrun may restart them and run.dir is empty, so that they could not find the folder again.
    """
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0 and not config.run.dir:
        raise UserError("run.dir is not set: want a folder, where ranks that torchrun restarts (--max-restarts) go on")
    return config.train.resume or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def check_same_place(found: list[str | None], folder: Path) -> None:
    """Raises UserError if ranks would resume from different places. found: name of the checkpoint that each rank found.

    If each node has the folder on its own disk, only the first node has checkpoints, and the others would start anew.
    """
    if len(set(found)) > 1:
        rank = next(rank for rank, name in enumerate(found) if name != found[0])
        here, there = (name or "no checkpoint" for name in (found[0], found[rank]))
        raise UserError(
            f"run.dir={folder}: rank 0 finds {here} there, rank {rank} finds {there}; want a folder that all nodes share"
        )


def former_summary(folder: Path, world: World, weights_sha256: str) -> dict[str, Any] | None:
    """The summary of a run that ended with these weights, on every rank; None if there is none."""

    def read() -> dict[str, Any] | None:
        with contextlib.suppress(UserError):  # there is none, or a broken one, and the end writes it anew
            summary = read_json(folder / "summary.json")
            return summary if summary.get("weights_sha256") == weights_sha256 else None
        return None

    found: dict[str, Any] | None = world.gather(world.only_on_main(read))[0]
    return found


def check_same_run(
    content: dict[str, Any], path: Path, config: RunConfig, global_batch_size: int, num_samples: int, digests: Digests
) -> None:
    """Raises UserError if a resumed configuration differs from the checkpoint's in options that affect the (best) weights.

    The number of ranks may change if the global batch stays the same: then the views of each step do too. num_samples: of the
    training beton, which may have moved; one with another number of images has other steps in an epoch.
    """
    had = content.get("num_samples", num_samples)  # older checkpoints do not say
    if had != num_samples:
        raise UserError(
            f"data.train={config.data.train}: has {num_samples} images, checkpoint {path} is of a run on {had}; want that "
            "run's beton, or start a new run"
        )
    if content["global_batch_size"] != global_batch_size:
        raise UserError(
            f"checkpoint {path}: of a run with a global batch of {content['global_batch_size']}, this one has "
            f"{global_batch_size}; choose data.batch_size and the number of ranks so that they agree"
        )
    for key, ours in config.options_that_decide(Decides.WEIGHTS).items():
        section, name = key.split(".")
        theirs = content["config"].get(section, {}).get(name, ours)  # older checkpoints do not have every option
        if theirs != ours:
            had, has = in_words(key, theirs), in_words(key, ours)
            raise UserError(f"checkpoint {path}: of a run with {key}={had}, not {has}; start a new run")
    _check_same_files(content.get("digests", {}), path, config, digests)


def _check_same_files(had: Digests, path: Path, config: RunConfig, digests: Digests) -> None:
    """Raises UserError if a file's content has changed; older checkpoints do not have its digest."""
    for option, ours in digests.items():
        section, name = option.split(".")
        for what, digest in ours.items():
            if had.get(option, {}).get(what, digest) != digest:
                raise UserError(
                    f"{option}={getattr(getattr(config, section), name)}: holds other {what} than the run of checkpoint {path} "
                    "had; want the same file, or start a new run"
                )
