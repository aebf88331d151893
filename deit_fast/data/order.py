"""Takes (seed, epoch, rank), gives which views a rank shows, batch by batch.

Training: a permutation of the samples, each `repeats` times in a row, is one stream for all ranks; global batch s is the
stream's s-th stretch, and rank r takes the r-th part of it. So each global batch holds the same views as with DeiT's
sampler (facebookresearch/deit, samplers.py) given the same permutation, and copies of a sample are neighbours on a rank. As
there, an epoch shows as many views as the set has samples, and so only 1 / repeats of the samples. Only whole global
batches are shown.
"""

from __future__ import annotations

import numpy as np

from deit_fast.augment import rng
from deit_fast.config import UserError


def steps_per_epoch(num_samples: int, batch_size: int, world_size: int) -> int:
    """Whole global batches in an epoch. Raises UserError if there is none."""
    steps = num_samples // (batch_size * world_size)
    if steps == 0:
        raise UserError(
            f"data.batch_size={batch_size} on {world_size} rank(s) is more than the {num_samples} training images; "
            "want a smaller batch"
        )
    return steps


def train_batches(
    num_samples: int, *, seed: int, epoch: int, batch_size: int, repeats: int, rank: int, world_size: int, first_step: int = 0
) -> np.ndarray:
    """View ids of a rank's batches from first_step on, uint64 (steps - first_step, batch_size)."""
    steps = steps_per_epoch(num_samples, batch_size, world_size)
    samples = rng.permutation(seed, epoch, num_samples)
    positions = np.arange(steps * world_size * batch_size).reshape(steps, world_size, batch_size)[first_step:, rank]
    return rng.pack_view_ids(epoch, samples[positions // repeats], positions % repeats)


def eval_batches(num_samples: int, *, batch_size: int, rank: int, world_size: int) -> list[np.ndarray]:
    """Sample numbers of a rank's batches, uint64, the last one shorter: every sample once over all ranks."""
    samples = np.arange(rank, num_samples, world_size, dtype=np.uint64)
    return [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
