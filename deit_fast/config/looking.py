"""Sections of commands that show what a configuration does to images, and what a model has learned."""

# ruff: noqa: RUF009  (option() gives a dataclasses.field, which is what stands here)

from __future__ import annotations

from dataclasses import dataclass

from deit_fast.config.options import Decides, Options, Triple, Within, option, path_option

_IMAGES = Within("1 to 64", lambda v: 1 <= v <= 64)


@dataclass(frozen=True)
class AnalyseConfig(Options):
    """Page of what a trained model has learned."""

    DECIDES = Decides.NOTHING

    run: str = path_option("", "folder of a run, of which the best checkpoint is read, or a file of weights")
    html: str = path_option("", "page to write; auto: analysis.html in the run's folder, or beside the file", unset="auto")
    images: int = option(
        8, "number of images for attention maps, spread over the classes, and of confidently wrong images", within=_IMAGES
    )
    pictures: tuple[str, ...] = path_option(
        (), "image files for attention maps; auto: analyse.images of the validation set", unset="auto"
    )
    bins: int = option(15, "bins of confidence for the calibration error", within=Within("2 to 100", lambda v: 2 <= v <= 100))


@dataclass(frozen=True)
class ViewsConfig(Options):
    """Page of the views that a configuration makes of images."""

    DECIDES = Decides.NOTHING

    images: int = option(8, "number of images to show: the first of the first epoch", within=_IMAGES)
    html: str = path_option("views.html", "page to write; a contact sheet of the same goes beside it as PNG")
    magnitudes: Triple | None = option(
        None,
        "three magnitudes to show each operation at; auto: a third, two thirds and all of the policy's largest",
        unset="auto",
        within=Within("each above 0, up to 1000", lambda v: all(0 < x <= 1000 for x in v)),
    )
