"""Milliseconds of one core for a view, of two checkouts in turns, with AVX-512 where the processor has it and by AVX2 alone.

    python records/2026-11-30-behind-decoding/in_turns.py BETON OLD NEW ROUNDS

Prints medians over the rounds. A stage is that of `../2026-11-30-loader/stages.py`; a loader's time is the processor's for a
view of an epoch, one worker, the median of ten epochs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

STAGES = ("resample", "rotate", "finish", "finish, mixup, erasing")
LOADERS = {"DeiT's recipe, 3 repeats": 3, "DeiT's recipe, 1 repeat": 1, "crop and flip to uint8": 0}


def time_loader(beton: str, repeats: int) -> float:
    import torch

    from deit_fast.config import AugmentConfig, DataConfig
    from deit_fast.data.load import loader

    data, augment = DataConfig(train=beton, val=beton, batch_size=128, num_workers=1), AugmentConfig(repeats=max(repeats, 1))
    if not repeats:
        data = DataConfig(train=beton, val=beton, batch_size=128, num_workers=1, dtype="uint8")
        augment = AugmentConfig(repeats=1, auto_augment="", erase=0.0, mixup=None, cutmix=None)
    batches = loader.train_loader(data, augment, seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    found = []
    for epoch in range(11):
        batches.set_epoch(epoch)
        num_views, started = 0, time.process_time()
        for batch in batches:
            num_views += len(batch.images)
        found.append((time.process_time() - started) / num_views * 1e3)
    return statistics.median(found[1:])


def environments() -> dict[str, dict[str, str]]:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    without = ",".join(f"{'+' if on and 'avx512' not in name else '-'}{name}" for name, on in features.items())
    return {"as it is": {}, "AVX2": {"NUMBA_CPU_NAME": "znver3", "NUMBA_CPU_FEATURES": without}}


def main() -> None:
    if sys.argv[1] == "loaders":
        for name, repeats in LOADERS.items():
            print(f"{name}: {time_loader(sys.argv[2], repeats):.4f}")
        return
    beton, checkouts, rounds = sys.argv[1], sys.argv[2:4], int(sys.argv[4])
    stages = Path(__file__).parents[1] / "2026-11-30-loader" / "stages.py"
    commands = ([str(stages), beton, *STAGES], [__file__, "loaders", beton])
    found = defaultdict(list)
    for _ in range(rounds):
        for kind, own in environments().items():
            for checkout in checkouts:
                for command in commands:
                    place = {"PYTHONPATH": checkout, "NUMBA_CACHE_DIR": f"{checkout}/.numba-{kind.replace(' ', '-')}"}
                    run = [sys.executable, *command]
                    lines = subprocess.run(run, env=os.environ | own | place, capture_output=True, text=True, check=True).stdout
                    for line in lines.splitlines():
                        name, milliseconds = line.rsplit(": ", 1)
                        found[kind, name, checkout].append(float(milliseconds))
    for kind, name, checkout in found:
        if checkout == checkouts[0]:
            old, new = (statistics.median(found[kind, name, one]) for one in checkouts)
            print(f"{kind:9} {name:26} {old:.4f} {new:.4f} {new / old:.2f}")


if __name__ == "__main__":
    main()
