"""Stock FFCV, with the beton of its own writer and its own loader, for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from deit_fast.benchmarks.rivals.common import Setting, System, Work
from deit_fast.benchmarks.rivals.stock_loader import StockBatches

_BATCHES_AHEAD = 3  # FFCV's default
_NUM_VIEWS = 10_000_000  # more than any comparison takes


def check_installed() -> None:
    """FFCV is one of our dependencies."""


def open_ffcv(work: Work, setting: Setting) -> System:
    """FFCV's loader with one thread for each core. Its first batch is there after half a minute of compiling."""
    loader = StockBatches(
        setting.files.beton("ffcv", work.raw_side),
        resolution=setting.resolution,
        batch_size=setting.batch_size,
        num_workers=setting.num_cores,
        batches_ahead=_BATCHES_AHEAD,
        seed=setting.seed,
        num_views=_NUM_VIEWS,
    )

    def batches() -> Iterator[int]:
        for images, _ in loader:
            yield len(images)

    stored = f"raw, longest side {work.raw_side}" if work.raw_side else "JPEG at quality 90"
    does = f"RandomResizedCropRGBImageDecoder (OpenCV's INTER_AREA) and RandomHorizontalFlip from its own beton, {stored}"
    return System(version("ffcv"), does, batches(), ahead=_BATCHES_AHEAD + 1, close=loader.close)
