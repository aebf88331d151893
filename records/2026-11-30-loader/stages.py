"""Milliseconds of one core for a view, by stage: the least of 40 repetitions, which other work on the machine disturbs least.

    python records/2026-11-30-loader/stages.py BETON [STAGE ...]

Uses 24 images, spread evenly over the beton. Runs on this commit and on 727163c, whose `stage_input` takes a beton.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from deit_fast.benchmarks.stages import STAGES, on_one_thread, stage_input
from deit_fast.config import AugmentConfig
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load import decode

_COUNT = 24
_REPETITIONS = 40


def main() -> None:
    beton, names = open_beton(Path(sys.argv[1])), sys.argv[2:] or list(STAGES)
    images = beton if hasattr(decode.Images, "lengths") else decode.images_of(beton)  # of 727163c, or of this commit
    given = stage_input(images, _COUNT, 224, "bicubic", AugmentConfig())
    least = dict.fromkeys(names, float("inf"))
    with on_one_thread():
        stages = {name: STAGES[name](given) for name in names}
        for repetition in range(_REPETITIONS + 1):
            for name, run in stages.items():
                if run is not None:
                    started = time.thread_time()
                    run()
                    if repetition:
                        least[name] = min(least[name], (time.thread_time() - started) / _COUNT)
    for name, seconds in least.items():
        print(f"{name}: {seconds * 1e3:.4f}")


if __name__ == "__main__":
    main()
