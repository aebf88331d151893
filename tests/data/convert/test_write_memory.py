"""The memory of a conversion does not grow with the number of images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.data.image_folders import smooth_image

PROGRAM = """
import json, resource, sys
from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert.write import write_beton
write_beton(SourceConfig(path=sys.argv[1]), WriteConfig(out=sys.argv[2], num_workers=2))
peaks = [resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_peak_is_the_same_for_twenty_times_as_many_images(tmp_path: Path) -> None:
    Image.fromarray(smooth_image(0, 300, 400)).save(tmp_path / "image.jpg", quality=95)
    peaks = {}
    for num_images in (1000, 20_000):
        folder = tmp_path / str(num_images) / "cat"
        folder.mkdir(parents=True)
        for number in range(num_images):
            (folder / f"{number:05}.jpg").symlink_to(tmp_path / "image.jpg")
        command = [sys.executable, "-c", PROGRAM, str(folder.parent), str(tmp_path / "set.beton")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[num_images] = json.loads(done.stdout.splitlines()[-1])
    for few, many in zip(peaks[1000], peaks[20_000], strict=True):  # of the parent, and of its largest worker
        assert many < 1.2 * few
