"""Makes files of the same images in every form that the compared systems need."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.benchmarks.rivals.stock_writer import write_with_stock_ffcv
from deit_fast.config import SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import Source, at_most
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format.beton import JPEG_MODE
from deit_fast.data.format.beton_set import open_set
from deit_fast.data.load.decode import images_of
from deit_fast.output import silent

Writer = Literal["deit_fast", "ffcv"]
_PNG = b"\x89PNG"


class BetonImages(Source):
    """The JPEGs that betons hold, as they are stored. Raises UserError where some of them are raw pixels."""

    def __init__(self, text: str) -> None:
        """text: as data.train has it."""
        betons = open_set(text, "data.train")
        if (betons.modes != JPEG_MODE).any():
            raise UserError(f"data.train={text}: holds raw pixels, which are no files; want --source.path=IMAGES instead")
        self._images = images_of(betons, has_index=False)
        self.location = text
        self.classes = betons.classes or tuple(str(label) for label in range(betons.num_classes))
        self.labels = betons.labels.astype(np.int32)

    def name(self, sample: int) -> str:
        return f"sample {sample}"

    def read(self, sample: int) -> bytes:
        return self._images.stored_bytes(sample).tobytes()


class BenchFiles:
    """The same images as an image folder and as betons, all in a scratch folder; a beton is made when first needed."""

    def __init__(self, scratch: Path, source: SourceConfig | str, max_images: int | None, num_workers: int) -> None:
        """source: what to convert, or betons as data.train names them; max_images: maximum number, in proportion from each
        class; None: all."""
        self._scratch = scratch
        self._num_workers = num_workers
        self._betons: dict[tuple[str, int], Path] = {}
        self.folder = scratch / "images"
        with closing(BetonImages(source) if isinstance(source, str) else open_source(source)) as opened:
            some = at_most(opened, max_images)
            self.num_images = some.num_samples
            self.num_bytes = sum(_write(some.read(sample), self._stem(some, sample)) for sample in range(some.num_samples))
            self.num_classes = len(np.unique(some.labels))

    def _stem(self, source: Source, sample: int) -> Path:
        folder = self.folder / f"{source.labels[sample]:06}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{sample:08}"

    def beton(self, writer: Writer, raw_side: int = 0) -> Path:
        """JPEGs as the writer stores them without resizing or, with a raw_side, pixels with that longest side."""
        key = (writer, raw_side)
        if key not in self._betons:
            path = self._scratch / f"{writer}-{raw_side or 'jpg'}.beton"
            kind = {"mode": "raw", "max_resolution": raw_side} if raw_side else {"mode": "jpg"}
            write = WriteConfig(out=str(path), num_workers=self._num_workers, **kind)
            source = SourceConfig(path=str(self.folder))
            with silent():
                if writer == "ffcv":
                    self.beton("deit_fast", raw_side)  # meets images that do not decode, for which FFCV would wait for ever
                    write_with_stock_ffcv(open_source(source), path, write, self._num_workers)
                else:
                    write_beton(source, write)
            self._betons[key] = path
        return self._betons[key]


def _write(content: bytes | NDArray[np.uint8], stem: Path) -> int:
    """Writes an image file, with the ending of its format; gives its number of bytes."""
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        Image.fromarray(content).save(buffer, "PNG", compress_level=1)
        content = buffer.getvalue()
    stem.with_suffix(".png" if content.startswith(_PNG) else ".jpg").write_bytes(content)
    return len(content)
