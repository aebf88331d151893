"""The memory of a conversion does not grow with the number of images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.data.image_folders import smooth_image
from tests.scale import scaled

# peaks of the parent, and of its largest worker, after each of the conversions
PROGRAM = """
import json, resource, sys
from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert.write import write_beton
peaks = []
for folder in sys.argv[2:]:
    write_beton(SourceConfig(path=folder), WriteConfig(out=sys.argv[1], num_workers=2))
    peaks.append([resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)])
print(json.dumps(peaks))
"""
NUM_MANY = scaled(20_000, 4_000)


@pytest.mark.slow
def test_peak_is_the_same_for_twenty_times_as_many_images(tmp_path: Path) -> None:
    Image.fromarray(smooth_image(0, 300, 400)).save(tmp_path / "image.jpg", quality=95)
    folders = []
    for num_images in (NUM_MANY // 20, NUM_MANY):
        folder = tmp_path / str(num_images) / "cat"
        folder.mkdir(parents=True)
        for number in range(num_images):
            (folder / f"{number:05}.jpg").symlink_to(tmp_path / "image.jpg")
        folders.append(str(folder.parent))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "set.beton"), *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for few, many in zip(*json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert many < 1.2 * few
