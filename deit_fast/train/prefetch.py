"""Copies batches of a loader to the device during the computation of the step before."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable

import torch

from deit_fast.data.load.loader import Batch


def memory_format(channels_last: bool) -> torch.memory_format:
    """Memory format of images for train.channels_last."""
    return torch.channels_last if channels_last else torch.contiguous_format


def on_device(batches: Iterable[Batch], device: torch.device, *, channels_last: bool) -> Generator[Batch, None, None]:
    """The batches as they come, their images in the memory format of train.channels_last; on CUDA their copies run on a
    stream of their own.

    The trainer only queues its kernels, so that it asks for batch n + 1 while the device is at step n: the copy, on another
    stream, does not wait for that step to end. The stream of the trainer waits for the copy.
    """
    wanted = memory_format(channels_last)
    if device.type != "cuda":
        for batch in batches:
            yield _laid_out(batch, wanted)
        return
    copies = torch.cuda.Stream(device)
    iterator = iter(batches)
    while True:
        with torch.cuda.stream(copies):
            made = next(iterator, None)
            if made is None:
                return
            batch = _laid_out(made, wanted)
        compute = torch.cuda.current_stream(device)
        compute.wait_stream(copies)
        for tensor in (batch.images, batch.targets):
            tensor.record_stream(compute)  # its memory is given to another batch only after the step that reads it
        yield batch


def _laid_out(batch: Batch, wanted: torch.memory_format) -> Batch:
    """The batch with its images in a memory format; a copy only where that is not the loaders', which is channels-last."""
    return dataclasses.replace(batch, images=batch.images.contiguous(memory_format=wanted))
