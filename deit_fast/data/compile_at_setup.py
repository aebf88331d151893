"""Compiles the functions of loaders and conversions ahead of their first use: `python -m deit_fast.data.compile_at_setup`."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from PIL import Image

from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert.converter import Converter
from deit_fast.data.convert.write import write_beton
from deit_fast.data.load.compile_ahead import RESOLUTION, compile_ahead


def compile_at_setup() -> None:
    """Runs `compile_ahead` on a temporary beton of two images, and converts an image of each kind."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(None):
        images = Path(name, "images", "grey")
        images.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (2 * RESOLUTION, 2 * RESOLUTION), (100, 100, 100 + number)).save(images / f"{number}.jpg")
        out = Path(name, "two.beton")
        write_beton(SourceConfig(path=str(images.parent)), WriteConfig(out=str(out), num_workers=1))
        compile_ahead(out)
    converter = Converter(WriteConfig())
    converter.warm_up()
    converter.close()


if __name__ == "__main__":
    compile_at_setup()
