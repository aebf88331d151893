"""Finds the names that the images of betons have in their sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.examine.against import open_comparison
from deit_fast.data.regroup.joined import Joined


def names_of(joined: Joined, source: str, option: str) -> NDArray[np.object_]:
    """The name of each sample (num_samples,) in its source, which the manifests name, or in `source`, if that is given.

    Raises UserError, which names the option that needs them, if a source is gone, or has another number of images.
    """
    names: list[str] = []
    for beton, manifest in zip(joined.betons, joined.manifests, strict=True):
        said = (manifest or {}).get("source")
        path = source or (str(said["path"]) if isinstance(said, dict) and said.get("path") else "")
        if not path or not Path(path).exists():
            where = f"its source {path} is not there" if path else "its manifest names no source"
            raise UserError(
                f"{option}: the names of the images in {beton.path} are unknown, since {where}; want the path of its source as "
                f"{option.partition('.')[0]}.source, or numbers of samples"
            )
        comparison, problems = open_comparison(path, beton, manifest)
        if comparison is None:
            raise UserError(f"{option}: the names of the images in {beton.path} are unknown: {problems[-1].what}")
        names += [comparison.name(sample) for sample in range(beton.num_samples)]
        comparison.close()
    return np.array(names, dtype=object)
