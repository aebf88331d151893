"""Fetches the photographs that Debian's packages of wallpapers carry, without installing the packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from deit_fast.config import UserError

PACKAGES = ("mate-backgrounds", "plasma-workspace-wallpapers")
_NATURE = "usr/share/backgrounds/mate/nature"
_PLASMA = "usr/share/wallpapers"
PHOTOGRAPHS = {  # those that are photographs, not drawings; a file for each, or a folder of one picture in several sizes
    "aqua": f"{_NATURE}/Aqua.jpg",
    "autumn": f"{_PLASMA}/Autumn/contents/images",
    "blinds": f"{_NATURE}/Blinds.jpg",
    "boats": f"{_PLASMA}/EveningGlow/contents/images",
    "cups": f"{_PLASMA}/ColorfulCups/contents/images",
    "dune": f"{_NATURE}/Dune.jpg",
    "facade": f"{_PLASMA}/Grey/contents/images",
    "forest": f"{_PLASMA}/Path/contents/images",
    "garden": f"{_NATURE}/Garden.jpg",
    "jetty": f"{_PLASMA}/ColdRipple/contents/images",
    "kite": f"{_PLASMA}/Kite/contents/images",
    "ladybird": f"{_NATURE}/LadyBird.jpg",
    "leaf": f"{_PLASMA}/FallenLeaf/contents/images",
    "moss": f"{_PLASMA}/OneStandsOut/contents/images",
    "planks": f"{_PLASMA}/BytheWater/contents/images",
    "raindrops": f"{_NATURE}/RainDrops.jpg",
    "storm": f"{_NATURE}/Storm.jpg",
    "two_wings": f"{_NATURE}/TwoWings.jpg",
    "wood": f"{_NATURE}/Wood.jpg",
    "yellow_flower": f"{_NATURE}/YellowFlower.jpg",
}
_INSTEAD = "or give --demo.photographs=FOLDER, a folder of large photographs of your own"


def fetch_photographs(scratch: Path) -> dict[str, Path]:
    """Downloads PACKAGES (140 MB) and unpacks them in the folder scratch; gives the file of each of PHOTOGRAPHS.

    Raises UserError where apt-get or dpkg-deb is missing, the download fails, or the packages lack a photograph.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise UserError(f"demo.set=photos: there is no {program} here; want Debian or Ubuntu, {_INSTEAD}")
    _run(["apt-get", "download", "-q", *PACKAGES], scratch, f"`apt-get update` as root may mend it, {_INSTEAD}")
    for package in sorted(scratch.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), "."], scratch, f"want room for 500 MB in {scratch}, {_INSTEAD}")
        package.unlink()
    return {name: _largest(scratch, path) for name, path in PHOTOGRAPHS.items()}


def _run(command: list[str], folder: Path, remedy: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        errors = [line for line in said if line.startswith(("E:", "dpkg-deb: error"))]
        raise UserError(f"`{' '.join(command)}` failed: {(errors or said)[0].strip()}; {remedy}")


def _largest(scratch: Path, path: str) -> Path:
    """The file of a photograph; of several sizes, the one with the most bytes."""
    found = scratch / path
    files = [found] if found.is_file() else sorted(file for file in found.glob("*.jpg") if file.is_file())
    if not files:
        raise UserError(f"{' and '.join(PACKAGES)} of this release lack {path}; want those of Debian 12, {_INSTEAD}")
    return max(files, key=lambda file: file.stat().st_size)
