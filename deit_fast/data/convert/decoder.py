"""Decodes one image of a source after another to the pixels that Pillow gives, with the fastest decoder that knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.convert.pixels import DEFAULT_MAX_PIXELS, BadImage, check_size, decode, one_line
from deit_fast.data.convert.transcode import NotTranscodable, Transcoder, jpeg_size, read_header, with_height
from deit_fast.kernels.jpeg.decode_image import ImageDecoder
from deit_fast.kernels.jpeg.turbojpeg import OK, JpegDecoder, reason

_JPEG_START = b"\xff\xd8\xff"
_UNDECODED_SUBSAMPLING = "chroma subsampling that TurboJPEG does not decode"


@dataclass(frozen=True)
class Odd:
    """What was wrong with an image, and what was done: converted from another format, repaired, or skipped."""

    what: Literal["converted", "repaired", "skipped"]
    reason: str


def is_jpeg(content: bytes) -> bool:
    """Whether the bytes begin as those of a JPEG."""
    return content[:3] == _JPEG_START


class PixelDecoder:
    """Decodes images in one thread; holds decoders and their scratch memory.

    Our own decoder takes sound JPEGs, sequential or progressive, TurboJPEG those that ours leaves to it, and Pillow decides on
    everything else. max_pixels: of the largest image. transcoder: reads progressive JPEGs; not closed here.
    """

    def __init__(self, transcoder: Transcoder, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self._max_pixels = max_pixels
        self._transcoder = transcoder
        self._own = ImageDecoder()
        self._turbojpeg = JpegDecoder()

    def close(self) -> None:
        self._turbojpeg.close()

    def pixels_of(self, content: bytes, name: str) -> tuple[NDArray[np.uint8], Odd | None]:
        """Pixels (height, width, 3) uint8 of an encoded image, valid until the next call, and what was odd about it.

        EXIF orientation is not applied. Raises BadImage if the image does not decode, is too large, or does not fit into
        memory.
        """
        try:
            if is_jpeg(content):
                content = self.checked_jpeg(name, content)
            pixels, odd, _ = self.decode(content, name)
        except BadImage:
            raise
        except MemoryError as error:
            raise BadImage(name, "there is not enough memory to decode it") from error
        except Exception as error:  # no defect of one image may end the work on all others
            raise BadImage(name, f"cannot be decoded: {one_line(error)}") from error
        return pixels, odd

    def checked_jpeg(self, name: str, encoded: bytes) -> bytes:
        """The JPEG with its height in the header; raises BadImage if it is too large, even if nothing will decode it."""
        try:
            width, height = jpeg_size(encoded)
        except NotTranscodable:
            filled = with_height(encoded)
            return encoded if filled is encoded else self.checked_jpeg(name, filled)
        check_size(name, width, height, self._max_pixels)
        return encoded

    def check_decodable(self, encoded: bytes, width: int, height: int) -> None:
        """Raises NotTranscodable for a JPEG that TurboJPEG does not take, or of another size."""
        if not self._turbojpeg.takes(encoded, height, width):
            raise NotTranscodable(_UNDECODED_SUBSAMPLING)

    def decode(
        self, content: bytes | NDArray[np.uint8], name: str, orientation: int = 1, refusal: str = ""
    ) -> tuple[NDArray[np.uint8], Odd | None, int]:
        """The image's pixels (height, width, 3) uint8, what was odd about it, and its EXIF orientation.

        orientation: of a JPEG. refusal: why a JPEG is for Pillow. Raises BadImage.
        """
        if not isinstance(content, bytes):
            return np.require(content, np.uint8, ["C", "W"]), None, 1
        if is_jpeg(content) and not refusal:
            try:
                return self.decode_plain(content), None, orientation
            except NotTranscodable as error:
                refusal = str(error)
        # Pillow decides on everything but sound JPEGs of grey levels or RGB
        decoded = decode(content, name, self._max_pixels)
        pixels = np.array(decoded.pixels)  # a copy: Numba would compile all again for read-only arrays
        return pixels, _odd(refusal, decoded.kind), decoded.orientation

    def show(self, encoded: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
        """Pixels by our own decoder, in memory that the next call reuses; None for what is TurboJPEG's."""
        found = self._own.decode(encoded, height, width)
        if found is None and (sequential := self._transcoder.sequential(encoded)) is not None:
            found = self._own.show(*sequential, height, width)
        return found

    def decode_plain(self, encoded: bytes) -> NDArray[np.uint8]:
        """Pillow's pixels (height, width, 3) uint8 of a sound JPEG, in memory that the next call reuses.

        Raises NotTranscodable for a JPEG that is damaged, or of a kind that TurboJPEG does not know.
        """
        width, height = jpeg_size(encoded)
        found = self.show(encoded, height, width)
        if found is not None:
            return found
        status, pixels = self._turbojpeg.decode(encoded, height, width)
        if status != OK:
            read_header(encoded)  # raises the reason for kinds of JPEG that TurboJPEG does not know
            self.check_decodable(encoded, width, height)
            raise NotTranscodable(f"damaged: {reason(status, np.frombuffer(encoded, np.uint8), height, width)}")
        return pixels


def _odd(refusal: str, kind: str) -> Odd | None:
    """Describes an image that Pillow decodes: its kind, and why our own decoding or transcoding refused a JPEG."""
    if refusal.startswith("damaged"):
        return Odd("repaired", f"{refusal}; decoded as far as Pillow can")
    return Odd("converted", kind or refusal) if kind or refusal else None
