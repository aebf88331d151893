"""Makes evaluation views of image files in one thread.

Of a JPEG that our own decoder knows, only what the view depends on becomes pixels, and two are decoded at once, which takes
less time. Other files are decoded whole, by the decoders of conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.augment.cropping import eval_cropping
from deit_fast.data.convert.decoder import PixelDecoder, is_jpeg
from deit_fast.data.convert.pixels import BadImage
from deit_fast.data.convert.transcode import NotTranscodable, Transcoder, jpeg_size
from deit_fast.data.format.files import read_file
from deit_fast.kernels import centre_view, resample
from deit_fast.kernels.jpeg.decode_image import ImageDecoder
from deit_fast.kernels.jpeg.decode_pair import finish_one
from deit_fast.train.trained import View

_REPAIRED = "repaired"


@dataclass(frozen=True, eq=False)
class _Begun:
    """A JPEG that one of the two decoders has begun, and its position among the files."""

    position: int
    content: bytes
    height: int
    width: int


class FileViews:
    """Makes views of files in one thread; holds decoders and scratch memory. max_pixels: of the largest image."""

    def __init__(self, view: View, max_pixels: int) -> None:
        self._transcoder = Transcoder(optimize=False)
        self._decoder = PixelDecoder(self._transcoder, max_pixels)
        self._pair = ImageDecoder(), ImageDecoder()
        self._side, self._kind = view.resolution, resample.FILTERS[view.interpolation]
        self._resized = int(eval_cropping(view.resolution, view.crop_ratio).resized)
        self._scratch: tuple[NDArray[Any], ...] = (np.empty(0, np.uint8), np.empty(0, np.int32))
        self._scratch_for = (0, 0)  # the largest height and width

    def make(self, paths: Sequence[str], views: NDArray[np.uint8]) -> list[str | BadImage]:
        """Fills views (n, side, side, 3) from n files.

        Gives for each file what was damaged in it, "" if nothing was; or why it has no view, which is then undefined.
        """
        results: list[str | BadImage] = [""] * len(paths)
        begun: dict[int, _Begun] = {}

        def end(number: int, is_sound: bool) -> None:
            image = begun.pop(number)
            if is_sound:
                self._show(self._pair[number].image(image.height, image.width), views[image.position])
            else:
                results[image.position] = self._make_whole(paths[image.position], image.content, views[image.position])

        for position, path in enumerate(paths):
            number = 1 if 0 in begun else 0
            try:
                content = _read(path)
                image = self._begin(number, position, path, content)
            except BadImage as bad:
                results[position] = bad
                continue
            if image is None:
                results[position] = self._make_whole(path, content, views[position])
                continue
            begun[number] = image
            if len(begun) == 2:
                end(*finish_one(*self._pair))
        for number in list(begun):
            end(number, self._pair[number].finish())
        return results

    def _begin(self, number: int, position: int, path: str, content: bytes) -> _Begun | None:
        """Begins a JPEG with one of the decoders; None if that does not know it. Raises BadImage if it is too large."""
        if not is_jpeg(content):
            return None
        content = self._decoder.checked_jpeg(path, content)
        try:
            width, height = jpeg_size(content)
            window = centre_view.window_of(height, width, self._resized, self._side, self._kind)
            is_begun = self._pair[number].begin(content, height, width, window)
        except (NotTranscodable, MemoryError):
            return None
        return _Begun(position, content, height, width) if is_begun else None

    def _make_whole(self, path: str, content: bytes, view: NDArray[np.uint8]) -> str | BadImage:
        """Makes the view of one file by decoding all of it; gives what `make` gives."""
        try:
            pixels, odd = self._decoder.pixels_of(content, path)
        except BadImage as bad:
            return bad
        self._show(pixels, view)
        return odd.reason if odd is not None and odd.what == _REPAIRED else ""

    def _show(self, pixels: NDArray[np.uint8], view: NDArray[np.uint8]) -> None:
        height, width = (max(pair) for pair in zip(pixels.shape, self._scratch_for, strict=False))
        if (height, width) != self._scratch_for:
            sizes = resample.scratch_sizes(height, width, self._side)
            self._scratch = tuple(np.empty(size, old.dtype) for size, old in zip(sizes, self._scratch, strict=True))
            self._scratch_for = height, width
        centre_view.show(pixels, self._resized, self._kind, *self._scratch, view)

    def close(self) -> None:
        self._decoder.close()
        self._transcoder.close()


def _read(path: str) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise BadImage(path, f"cannot be read: {error.strerror or error}") from error
