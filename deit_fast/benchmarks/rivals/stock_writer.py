"""Stock FFCV's writer, as in its documentation, for comparison."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
from PIL import Image

from deit_fast.config import WriteConfig
from deit_fast.data.convert.sources.base import Source
from deit_fast.data.format.files import sync


class _PillowImages:
    """Images in RGB and labels, decoded by Pillow, as torchvision's data sets give them."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        return self._source.num_samples

    def __getitem__(self, sample: int) -> tuple[Image.Image, int]:
        content = self._source.read(sample)
        image = Image.open(io.BytesIO(content)) if isinstance(content, bytes) else Image.fromarray(content)
        return image.convert("RGB"), int(self._source.labels[sample])


def write_with_stock_ffcv(source: Source, out: Path, config: WriteConfig, num_workers: int) -> None:
    """Writes `out` with FFCV's DatasetWriter in config's mode, quality and largest side, and waits until it is on the disk.

    A file that does not decode, or a worker that dies, leaves it waiting for ever.
    """
    image = RGBImageField(
        write_mode=config.mode,
        max_resolution=config.max_resolution,
        jpeg_quality=config.jpeg_quality,
        compress_probability=config.jpeg_share,
    )
    np.random.seed(config.seed)  # noqa: NPY002  (FFCV draws from NumPy's global generator)
    writer = DatasetWriter(str(out), {"image": image, "label": IntField()}, num_workers=num_workers)
    writer.from_indexed_dataset(_PillowImages(source))
    sync(out)
