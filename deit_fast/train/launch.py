"""Reads rank and number of ranks of this process from torchrun's environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from deit_fast.config import RankError


@dataclass(frozen=True)
class Launch:
    """Rank and number of ranks, of all and of this node (0 of 1 where that is not said). Without torchrun: rank 0 of 1."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int


def launch_of_environment() -> Launch:
    """What RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE say. Raises RankError where they do not fit each other, or where
    several ranks have no MASTER_ADDR and MASTER_PORT to meet at."""
    world_size = _number("WORLD_SIZE", 1, least=1)
    rank = _number("RANK", 0)
    for name, other, is_missed in (
        ("WORLD_SIZE", "RANK", world_size > 1),
        ("RANK", "WORLD_SIZE", True),
    ):
        if is_missed and name in os.environ and other not in os.environ:
            raise RankError(
                f"{name}={os.environ[name]} is set and {other} is not: want both, as torchrun sets them; for a single process "
                f"unset {name}"
            )
    if rank >= world_size:
        raise RankError(f"RANK={rank}: want 0 to {world_size - 1}, for WORLD_SIZE={world_size}")
    if world_size > 1:
        _check_meeting_place(world_size)
    return Launch(rank, world_size, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1, least=1))


def _check_meeting_place(world_size: int) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise RankError(
                f"WORLD_SIZE={world_size} is set and {name} is not: want where rank 0 is to be met; torchrun sets it"
            )
    port = _number("MASTER_PORT", 0, least=1)
    if port > 65535:
        raise RankError(f"MASTER_PORT={port}: want 1 to 65535")


def _number(name: str, default: int, least: int = 0) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise RankError(f"{name}={text}: want a whole number of at least {least}, as torchrun sets it, or {name} unset")
    return int(text)
