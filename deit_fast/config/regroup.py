"""Sections about betons made from betons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deit_fast.config.options import ABOVE_0, AT_LEAST_1, FACTOR, SEED, Decides, Options, option, path_option

_OUT = "beton to write; its manifest goes beside it as OUT.json"
_SOURCE = "source in which the images have the names of {}; auto: the one in each beton's manifest"


@dataclass(frozen=True)
class MergeConfig(Options):
    """Betons joined into one, without decoding."""

    DECIDES = Decides.NOTHING

    betons: tuple[str, ...] = path_option((), "betons to join, in this order, or patterns; classes are matched by name")
    out: str = path_option("", _OUT)


@dataclass(frozen=True)
class SplitConfig(Options):
    """Betons divided into shards, without decoding."""

    DECIDES = Decides.NOTHING

    betons: tuple[str, ...] = path_option((), "beton to divide, or several, as one after the other; each shard has all classes")
    out: str = path_option(
        "", "name of the shards: set.beton stands for set-00000-of-00016.beton and so on; auto: that of the beton", unset="auto"
    )
    shards: int | None = option(
        None, "number of shards, with the same number of images but for one", unset="off", within=AT_LEAST_1
    )
    shard_gb: float | None = option(
        None,
        "largest size of the images in a shard, in units of 1e9 bytes; lengths of tiles and gaps add about 1 %",
        unset="off",
        within=ABOVE_0,
    )


@dataclass(frozen=True)
class SubsetConfig(Options):
    """Some images of betons; each option chooses among what the one before leaves."""

    DECIDES = Decides.NOTHING

    betons: tuple[str, ...] = path_option((), "beton to choose from, or several, as one after the other")
    out: str = path_option("", _OUT)
    classes: tuple[str, ...] = path_option((), "names of the classes to keep, or one text file with a name a line", unset="all")
    labels: Literal["anew", "keep"] = option(
        "anew", "with subset.classes: number the kept classes anew, in their order; keep: all classes stay, some without images"
    )
    samples: str = path_option(
        "", "text file with the images to keep, one a line: numbers of samples, from 0 on, or names in the source", unset="all"
    )
    source: str = path_option("", _SOURCE.format("subset.samples"), unset="auto")
    count: int | None = option(None, "number of images, in proportion from each class", unset="all", within=AT_LEAST_1)
    share: float | None = option(None, "share of the images, in proportion from each class", unset="all", within=FACTOR)
    seed: int = option(0, "seed that chooses the images of subset.count and subset.share", within=SEED)


@dataclass(frozen=True)
class FilterConfig(Options):
    """Images of betons that meet all conditions, or all others, without decoding."""

    DECIDES = Decides.NOTHING

    betons: tuple[str, ...] = path_option((), "beton to choose from, or several, as one after the other")
    out: str = path_option("", _OUT)
    action: Literal["keep", "drop"] = option("keep", "what happens to the images that meet all conditions that are set")
    names: tuple[str, ...] = option((), "name in the source matches one of these patterns (*, ?, [...])", unset="all")
    source: str = path_option("", _SOURCE.format("filter.names"), unset="auto")
    odd: tuple[str, ...] = option(
        (),
        "the manifest says of the image that it was converted from another format, or repaired: converted, repaired",
        unset="off",
    )
    kind: Literal["all", "jpeg", "raw"] = option("all", "how the image is stored")
    min_width: int | None = option(None, "smallest width in pixels", unset="off", within=AT_LEAST_1)
    max_width: int | None = option(None, "largest width in pixels", unset="unlimited", within=AT_LEAST_1)
    min_height: int | None = option(None, "smallest height in pixels", unset="off", within=AT_LEAST_1)
    max_height: int | None = option(None, "largest height in pixels", unset="unlimited", within=AT_LEAST_1)
