"""Converts one image of a source into the bytes that the beton stores."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.config import WriteConfig
from deit_fast.data.convert.decoder import Odd, PixelDecoder, is_jpeg
from deit_fast.data.convert.metadata import jpeg_orientation
from deit_fast.data.convert.pixels import (
    BadImage,
    check_size,
    max_pixels,
    one_line,
    stored_size,
    turn,
)
from deit_fast.data.convert.transcode import (
    NotTranscodable,
    Transcoder,
    jpeg_size,
)
from deit_fast.data.convert.transcode.encode import TileEncoder
from deit_fast.data.format.beton import JPEG_MODE, RAW_MODE
from deit_fast.data.format.layout import Tiling
from deit_fast.kernels import crop, resample
from deit_fast.kernels.histograms import histograms

MAX_SIDE = {JPEG_MODE: 65500, RAW_MODE: 65535}  # libjpeg's limit; uint16 in the metadata


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as the beton stores it: `mode` JPEG_MODE or RAW_MODE, `tiling` None for raw pixels.

    `is_exact`: a JPEG with the source's pixels, never decoded. `orientation`: the source's EXIF orientation, 1 to 8.
    `histograms`: (3, 256) int64, None if not requested.
    """

    stored: bytes
    mode: int
    width: int
    height: int
    tiling: Tiling | None
    is_exact: bool
    orientation: int
    odd: Odd | None
    histograms: NDArray[np.int64] | None


def storage_mode(config: WriteConfig, sample: int) -> str:
    """'jpg', 'raw' or 'smart' for a sample. Mode proportion draws it, keyed by (seed, sample), alike in any process."""
    if config.mode != "proportion":
        return config.mode
    key = np.array([config.seed % 2**64, sample], dtype=np.uint64)
    return "jpg" if np.random.Generator(np.random.Philox(key=key)).random() < config.jpeg_share else "raw"


class Converter:
    """Converts images in one process; holds its settings, scratch memory and decoders."""

    def __init__(self, config: WriteConfig) -> None:
        self.config = config
        self._max_pixels = max_pixels(config)
        self._transcoder = Transcoder(optimize=config.optimize)
        self._encoder = TileEncoder(config.jpeg_quality, config.subsampling, optimize=config.optimize)
        self._decoder = PixelDecoder(self._transcoder, self._max_pixels)
        self._scratch: tuple[NDArray[Any], ...] = (np.empty(0, np.uint8), np.empty(0, np.int32))

    def close(self) -> None:
        self._transcoder.close()
        self._decoder.close()

    def warm_up(self) -> None:
        """Loads, or compiles, what an image may need: processes that are forked afterwards then need not, each for itself."""
        pixels = np.zeros((16, 16, 3), np.uint8)
        self._encoder.encode(self._resized(pixels, 8, 8))
        for progressive in (True, False):  # at set-up another process compiles for the plain ones meanwhile
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", progressive=progressive)
            self._transcoder.transcode(file.getvalue())
            histograms(self._decoder.decode_plain(file.getvalue()))

    def convert(self, sample: int, name: str, content: bytes | NDArray[np.uint8], with_histograms: bool) -> StoredImage:
        """Converts an image as config asks: losslessly if it is a JPEG that needs no change, else by encoding it anew.

        content: encoded bytes, or RGB pixels (height, width, 3) uint8. Raises BadImage if the image does not decode, is too
        large, does not fit into memory, or cannot be stored for another reason.
        """
        try:
            return self._convert(sample, name, content, with_histograms)
        except BadImage:
            raise
        except MemoryError as error:
            raise BadImage(name, "there is not enough memory to convert it") from error
        except Exception as error:  # no defect of one image may end the whole conversion
            raise BadImage(name, f"cannot be converted: {one_line(error)}") from error

    def _convert(self, sample: int, name: str, content: bytes | NDArray[np.uint8], with_histograms: bool) -> StoredImage:
        orientation = 1
        if not isinstance(content, bytes):
            check_size(name, content.shape[1], content.shape[0], self._max_pixels)
        elif is_jpeg(content):
            content = self._decoder.checked_jpeg(name, content)
            orientation = jpeg_orientation(content)
        mode = storage_mode(self.config, sample)
        refusal = ""
        if mode != "raw" and isinstance(content, bytes) and is_jpeg(content) and not self._turns(orientation):
            passed = self._pass_through(content, mode, orientation, with_histograms)
            if isinstance(passed, StoredImage):
                return passed
            refusal = passed
        pixels, odd, orientation = self._decoder.decode(content, name, orientation, refusal)
        if self._turns(orientation):
            pixels = np.array(turn(Image.fromarray(pixels), orientation))
        width, height = stored_size(pixels.shape[1], pixels.shape[0], self.config)
        _check_sides(name, width, height, JPEG_MODE if mode == "jpg" else RAW_MODE)
        if (height, width) != pixels.shape[:2]:
            pixels = self._resized(pixels, height, width)
        counts = histograms(pixels) if with_histograms else None
        stored = self._encode(pixels, mode)
        if odd is not None and odd.what == "repaired" and stored.mode == JPEG_MODE:
            odd = dataclasses.replace(odd, reason=f"{odd.reason}, and encoded again")
        return dataclasses.replace(stored, orientation=orientation, odd=odd, histograms=counts)

    def _turns(self, orientation: int) -> bool:
        return orientation != 1 and self.config.exif_orientation == "apply"

    def _pass_through(self, encoded: bytes, mode: str, orientation: int, with_histograms: bool) -> StoredImage | str:
        """The JPEG with restart markers; or why it must be decoded, "" if that is expected."""
        try:
            if self.config.max_resolution:
                size = jpeg_size(encoded)
                if stored_size(size[0], size[1], self.config) != size:
                    return ""
            transcoded = self._transcoder.transcode(encoded)
            stored = transcoded.encoded
            self._decoder.check_decodable(stored, transcoded.width, transcoded.height)
            counts = None
            if with_histograms:  # TurboJPEG might remark on what lies about the source's scan, and not on what is stored
                pixels = self._decoder.show(encoded, transcoded.height, transcoded.width)
                counts = histograms(self._decoder.decode_plain(stored) if pixels is None else pixels)
        except NotTranscodable as error:
            return str(error)
        if mode == "smart" and not self._is_worth_it(len(stored), transcoded.width, transcoded.height):
            return ""
        width, height = transcoded.width, transcoded.height
        return StoredImage(stored, JPEG_MODE, width, height, transcoded.tiling, True, orientation, None, counts)

    def _is_worth_it(self, jpeg_bytes: int, width: int, height: int) -> bool:
        return jpeg_bytes < self.config.smart_share * 3 * width * height

    def _resized(self, pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Resizes pixels as Pillow does."""
        old_height, old_width = pixels.shape[:2]
        sizes = resample.scratch_sizes(old_height, old_width, max(height, width), min(height, width))
        if any(scratch.size < size for scratch, size in zip(self._scratch, sizes, strict=True)):
            self._scratch = tuple(np.empty(size, scratch.dtype) for scratch, size in zip(self._scratch, sizes, strict=True))
        resized = np.empty((height, width, 3), np.uint8)
        whole = crop.axes((0, 0, old_height, old_width, height, width, 0, 0), 0, 0, 1)
        resample.resample(pixels, *whole, resample.FILTERS[self.config.interpolation], False, *self._scratch, resized)
        return resized

    def _encode(self, pixels: NDArray[np.uint8], mode: str) -> StoredImage:
        height, width = pixels.shape[:2]
        if mode != "raw":
            stored, tiling = self._encoder.encode(pixels)
            if mode == "jpg" or self._is_worth_it(len(stored), width, height):
                return StoredImage(stored, JPEG_MODE, width, height, tiling, False, 1, None, None)
        return StoredImage(pixels.tobytes(), RAW_MODE, width, height, None, False, 1, None, None)


def _check_sides(name: str, width: int, height: int, mode: int) -> None:
    if max(width, height) > MAX_SIDE[mode]:
        raise BadImage(
            name,
            f"{width}x{height} pixels: a beton takes sides of at most {MAX_SIDE[mode]} in this mode; "
            "--write.max_resolution scales images down",
        )
