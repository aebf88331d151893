"""The files that come with the package: recipes (`deit_configs`, `rn_configs`, links to the repository's) and `prices.yaml`."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def shipped(name: str, folder: Path | None = None) -> Path:
    """The path `name`, in `folder` if given; where nothing is there, the YAML that the package has by that name, if it has one.

    So `deit_configs/deit_small.yaml` is found in any folder, and a file of one's own comes first.
    """
    path = Path(name)
    own, found = _FOLDER / path, (folder or Path()) / path
    if found.exists() or path.is_absolute() or ".." in path.parts or path.suffix != ".yaml" or not own.is_file():
        return found
    return own
