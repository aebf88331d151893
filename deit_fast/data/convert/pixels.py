"""Decodes images of any format to RGB pixels, and orients, resizes and encodes them, with Pillow."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deit_fast.config import WriteConfig
from deit_fast.data.convert.metadata import ORIENTATION, ReadableExif, orientation_of, without_metadata
from deit_fast.data.convert.transcode import with_height

_EXTENSIONS_OF = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg")}
_16_BIT_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def max_pixels(config: WriteConfig) -> int:
    """Number of pixels in the largest image that config allows."""
    return round(config.max_megapixels * 1e6)


DEFAULT_MAX_PIXELS = max_pixels(WriteConfig())


class BadImage(ValueError):
    """A file does not decode completely to an image; has the reason in one line."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class DecodedImage:
    """`pixels`: a Pillow image in mode RGB, not turned. `kind`: such as "CMYK JPEG". `orientation`: EXIF's, 1 to 8."""

    def __init__(self, pixels: Image.Image, kind: str, orientation: int) -> None:
        self.pixels = pixels
        self.kind = kind
        self.orientation = orientation


def check_size(name: str, width: int, height: int, limit: int) -> None:
    """Raises BadImage if an image has more pixels than the limit."""
    if width * height > limit:
        raise BadImage(name, f"{width}x{height} pixels are {_over(limit)}")


def _over(limit: int) -> str:
    return f"more than {limit / 1e6:.9g} million; --write.max_megapixels raises that limit"


def decode(encoded: bytes, name: str, limit: int = DEFAULT_MAX_PIXELS) -> DecodedImage:
    """Decodes with Pillow, and converts the result to RGB as torchvision's loader does: alpha is dropped.

    Grey levels of more than 8 bits keep their upper 8: Pillow's own conversion would clip all above 255 to white. Metadata
    that Pillow cannot read count as absent. Raises BadImage if the bytes do not decode to the end: another kind of file,
    truncated, empty, with more pixels than the limit, or too large for memory.
    """
    if not encoded:
        raise BadImage(name, "empty file")
    encoded = with_height(encoded)
    with _QUIET_PILLOW.within(limit):
        try:
            return _decode(encoded, name, limit)
        except BadImage:
            raise
        except MemoryError as error:
            raise BadImage(name, "there is not enough memory to decode it") from error
        except Image.DecompressionBombError as error:
            raise BadImage(name, f"its pixels are {_over(limit)}") from error
        except Exception as error:  # Pillow's decoders may raise anything: OSError, SyntaxError, struct.error …
            bare = without_metadata(encoded)
            if bare != encoded:
                with contextlib.suppress(Exception):
                    return _decode(bare, name, limit)
            raise BadImage(name, _reason(error, encoded)) from error


class _QuietPillow:
    """Lets Pillow decode up to a limit of pixels, without warnings on stderr about odd tags and large images.

    Limit, warnings and loggers are global, and read in many places. The first of the threads that decode at a time changes
    them, the last restores them; `check_size` holds where threads have different limits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_within = 0
        self._exit = contextlib.ExitStack()

    @contextlib.contextmanager
    def within(self, limit: int) -> Iterator[None]:
        with self._lock:
            if not self._num_within:
                self._begin()
            Image.MAX_IMAGE_PIXELS = -(-limit // 2)  # Pillow warns above this, and refuses above twice this
            self._num_within += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_within -= 1
                if not self._num_within:
                    self._exit.close()

    def _begin(self) -> None:
        logger, handler = logging.getLogger("PIL"), logging.NullHandler()
        logger.addHandler(handler)
        self._exit.callback(logger.removeHandler, handler)
        self._exit.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        self._exit.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")


_QUIET_PILLOW = _QuietPillow()


def _decode(encoded: bytes, name: str, limit: int) -> DecodedImage:
    with Image.open(io.BytesIO(encoded)) as image:
        check_size(name, image.width, image.height, limit)
        if image._exif is None:
            image._exif = ReadableExif()
        image.load()
        kind = _kind(image, name)
        if image.mode in _16_BIT_MODES:
            levels = np.asarray(image).astype(np.int64)
            pixels = Image.fromarray(np.clip(levels >> 8, 0, 255).astype(np.uint8)).convert("RGB")
        else:
            pixels = image.convert("RGB")
        pixels.info = {}  # else a comment or profile would go into the encoded image
        return DecodedImage(pixels, kind, orientation_of(image))


def _reason(error: Exception, encoded: bytes) -> str:
    """Why Pillow does not decode a file, in one line."""
    if not isinstance(error, UnidentifiedImageError):
        return one_line(error)
    for format_name in Image.ID:  # Pillow says so whatever the reason was
        factory, accept = Image.OPEN[format_name]
        if accept is not None and accept(encoded[:16]) is True:
            try:
                factory(io.BytesIO(encoded), "")
            except Exception as why:
                return f"{format_name} that Pillow does not read: {one_line(why)}"
    return "not an image that Pillow knows"


def one_line(error: BaseException) -> str:
    """Kind and text of an exception."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _kind(image: Image.Image, name: str) -> str:
    """What is unusual about an image; empty for RGB in a file with its format's extension."""
    extension = name[name.rfind(".") :].lower() if "." in name.rsplit("/", 1)[-1] else ""
    image_format = image.format or "image"
    words = []
    if image.mode != "RGB":
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        mode = {"L": "grey", "LA": "grey", "P": "palette", "1": "bilevel", "RGBA": "RGB"}.get(image.mode, image.mode)
        mode = "16-bit grey" if image.mode in _16_BIT_MODES else mode
        words.append(f"{mode} with alpha" if has_alpha else mode)
    known = _EXTENSIONS_OF.get(image_format) or tuple(
        key for key, value in Image.registered_extensions().items() if value == image_format
    )
    words.append(image_format)
    if extension and known and extension not in known:
        words.append(f"under the extension {extension}")
    return "" if len(words) == 1 else " ".join(words)


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Turns and mirrors an image as an EXIF orientation (1 to 8) says."""
    if orientation == 1:
        return image
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    turned = ImageOps.exif_transpose(image)
    assert turned is not None
    return turned


def stored_size(width: int, height: int, config: WriteConfig) -> tuple[int, int]:
    """Stored (width, height) of an image: scaled down so that the side that config limits is within its limit.

    The aspect is kept: the other side is rounded to the nearest pixel, at least 1.
    """
    side = max(width, height) if config.resize_side == "longest" else min(width, height)
    limit = config.max_resolution
    if limit is None or limit >= side:
        return width, height
    return max(1, round(width * limit / side)), max(1, round(height * limit / side))


def resize(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """Pillow's antialiased resize with a filter by name; the image itself if it already has the size.

    Rows first, then columns, like Pillow up to 12 and our own resampling. Pillow 13 begins with the cheaper pass, which
    changes tall images by up to two grey levels.
    """
    for step in ((size[0], image.height), size):
        if image.size != step:
            image = image.resize(step, Image.Resampling[interpolation.upper()])
    return image
