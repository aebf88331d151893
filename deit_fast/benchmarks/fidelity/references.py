"""What Pillow, timm and torchvision do for each operation on views, with the same argument: `bench fidelity` and the tests
compare ours with these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import timm.data.auto_augment as timms
from PIL import Image
from torchvision.transforms import functional as F

from deit_fast.benchmarks.fidelity.older_pillow import posterized


@dataclass(frozen=True)
class Reference:
    """The reference of an operation.

    function(image, argument, fillcolor=..., resample=...) gives the image as it should be. arguments: those to try, the ends
    of the usual range among them. limits: tests try any between, whole numbers if both are; none where the operation has no
    argument, or has tests of its own. moves_pixels: it interpolates, bicubically or bilinearly. max_wanted: largest allowed
    difference of a level in `bench fidelity`. named: there, if not by the first of its names in policies; those that timm has
    too are measured with what timm makes of a magnitude. made_by: where the function comes from.
    """

    function: Callable[..., Image.Image]
    arguments: tuple[float, ...] = (0.0,)
    limits: tuple[float, float] | None = None
    moves_pixels: bool = False
    max_wanted: float = 0.0
    named: str = ""
    made_by: str = "timm"


def _plain(function: Callable[[Image.Image], Image.Image]) -> Callable[..., Image.Image]:
    return lambda image, argument, **options: function(image)


def _whole(function: Callable[[Image.Image, int], Image.Image]) -> Callable[..., Image.Image]:
    return lambda image, argument, **options: function(image, int(argument))


def _enhancing(function: Callable[..., Image.Image]) -> Reference:
    return Reference(function, (0.0, 0.1, 0.37, 1.0, 1.9), (-3.0, 5.0), max_wanted=1.0)


def _moving(function: Callable[..., Image.Image], arguments: tuple[float, ...]) -> Reference:
    return Reference(function, arguments, moves_pixels=True, max_wanted=1.0)


# by the operation's name, in the order of the table that `bench fidelity` makes
REFERENCES: dict[str, Reference] = {
    "auto_contrast": Reference(_plain(timms.auto_contrast)),
    "equalize": Reference(_plain(timms.equalize)),
    "invert": Reference(_plain(timms.invert)),
    "posterize": Reference(_whole(posterized), (0, 3, 8), (0, 8)),
    "solarize": Reference(timms.solarize, (0, 77, 77.5, 256), (0, 256)),
    "solarize_add": Reference(_whole(timms.solarize_add), (0, 99), (0, 255)),
    "color": _enhancing(timms.color),
    "contrast": _enhancing(timms.contrast),
    "brightness": _enhancing(timms.brightness),
    "sharpness": _enhancing(timms.sharpness),
    "rotate": _moving(timms.rotate, (17.3, -29.0, 0.0, 90.0, 180.0, -90.0, 200.0)),
    "shear_x": _moving(timms.shear_x, (0.27, -0.111, 1e300)),
    "shear_y": _moving(timms.shear_y, (0.27, -0.111, -1e300)),
    "translate_x": _moving(timms.translate_x_abs, (2.7, -4.0, 1e300)),
    "translate_y": _moving(timms.translate_y_abs, (2.7, -4.0, -1e300)),
    "grey": Reference(_plain(lambda image: F.to_grayscale(image, 3)), named="grayscale", made_by="torchvision"),
    "blur": Reference(timms.gaussian_blur, (0.0, 0.1, 1.0, 2.0, 4.3), (0.0, 4.0)),
}
