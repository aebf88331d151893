"""Takes a loader, gives its batches on the device, copied there beside the computation of the step before."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch

from deit_fast.data.loader import Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """The batches as they come; on CUDA their copies run on a stream of their own.

    The trainer only queues its kernels, so that it asks for batch n + 1 while the device is at step n: the copy, on another
    stream, does not wait for that step to end. The stream of the trainer waits for the copy.
    """
    if device.type != "cuda":
        yield from batches
        return
    copies = torch.cuda.Stream(device)
    iterator = iter(batches)
    while True:
        with torch.cuda.stream(copies):
            batch = next(iterator, None)
        if batch is None:
            return
        compute = torch.cuda.current_stream(device)
        compute.wait_stream(copies)
        for tensor in (batch.images, batch.targets):
            tensor.record_stream(compute)  # its memory is given to another batch only after the step that reads it
        yield batch
