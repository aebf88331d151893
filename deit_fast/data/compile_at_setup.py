"""Compiles the functions of loaders and conversions ahead of their first use: `python -m deit_fast.data.compile_at_setup`."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import tempfile
from pathlib import Path

from PIL import Image

from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert.converter import Converter
from deit_fast.data.convert.write import write_beton
from deit_fast.data.load.compile_ahead import FILES, ON_CPU, RESOLUTION, compile_ahead, compile_faster


def compile_at_setup() -> None:
    """Runs `compile_ahead` on a temporary beton of two images, and converts an image of each kind.

    A second process compiles for the other kinds of images while the two are converted.
    """
    other = multiprocessing.get_context("fork").Process(target=_compile_conversion)
    other.start()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(None):
        images = Path(name, "images", "grey")
        images.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (2 * RESOLUTION, 2 * RESOLUTION), (100, 100, 100 + number)).save(images / f"{number}.jpg")
        out = Path(name, "two.beton")
        with contextlib.redirect_stderr(io.StringIO()):  # its progress
            write_beton(SourceConfig(path=str(images.parent)), WriteConfig(out=str(out), num_workers=1))
        other.join()  # the loaders' functions are for processes of their own again
        compile_ahead(out, (*ON_CPU, FILES))
    _convert_all_kinds()


def _compile_conversion() -> None:
    compile_faster()
    _convert_all_kinds()


def _convert_all_kinds() -> None:
    converter = Converter(WriteConfig())
    converter.warm_up()
    converter.close()


if __name__ == "__main__":
    compile_at_setup()
