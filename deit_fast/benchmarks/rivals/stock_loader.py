"""Stock FFCV's loader with random crops and flips, as in its documentation, for comparison."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, ToTensor

from deit_fast.data.format.beton import open_beton

_POLL_SECONDS = 1.0


class StockBatches:
    """Batches of FFCV's Loader: uint8 (B, resolution, resolution, 3) views, and labels (B, 1) int64, for num_views views.

    One iteration over the indices of the set, repeated as often as that takes: at the end of each iteration FFCV would let
    go of its memory and begin with an empty queue. Raises RuntimeError where FFCV's thread has died, which FFCV does not
    notice.
    """

    def __init__(
        self, beton: Path, *, resolution: int, batch_size: int, num_workers: int, batches_ahead: int, seed: int, num_views: int
    ) -> None:
        torch_threads = torch.get_num_threads()
        self._loader = Loader(
            str(beton),
            batch_size=batch_size,
            num_workers=num_workers,
            os_cache=True,
            order=OrderOption.RANDOM,
            seed=seed,
            pipelines={
                "image": [RandomResizedCropRGBImageDecoder((resolution, resolution)), RandomHorizontalFlip(), ToTensor()],
                "label": [IntDecoder(), ToTensor()],
            },
            batches_ahead=batches_ahead,
            indices=np.resize(np.arange(open_beton(beton).num_samples, dtype=np.uint64), num_views),
        )
        self._iteration = iter(self._loader)
        torch.set_num_threads(torch_threads)  # FFCV has set it to num_workers

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            try:
                item = self._iteration.output_queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self._iteration.is_alive():
                    raise RuntimeError("the thread of stock FFCV's loader has ended; its traceback stands above") from None
                continue
            if item is None:
                return
            yield item[1]

    def close(self) -> None:
        """Ends FFCV's thread and waits for it."""
        self._iteration.terminate_event.set()
        self._iteration.join()
