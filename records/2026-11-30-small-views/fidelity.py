"""How far views are that data.dct_scaling decodes at a smaller size, from those decoded at full size.

fidelity.py SET.beton: crops of two epochs, without augmentation, at 96 and 160 pixels. Run from the project's root.
"""

import sys

import numpy as np
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import train_loader

plain = AugmentConfig(repeats=1, auto_augment="", erase=0.0, mixup=None, cutmix=None, label_smoothing=0.0, mix_probability=0.0)
for side in (96, 160):
    data = [
        DataConfig(train=sys.argv[1], batch_size=128, resolution=side, dtype="uint8", dct_scaling=on) for on in (False, True)
    ]
    full, scaled = (train_loader(one, plain, seed=0, rank=0, world_size=1, device=torch.device("cpu")) for one in data)
    found = []
    for epoch in range(2):
        for loader in (full, scaled):
            loader.set_epoch(epoch)
        found += [(a.images.int() - b.images.int()).abs().flatten(1).numpy() for a, b in zip(full, scaled, strict=True)]
    views = np.concatenate(found)
    other = views[views.max(1) > 0].astype(float)
    psnr = 10 * np.log10(255**2 / (other**2).mean(1))
    print(
        f"{side} pixels, {len(views)} crops: {len(other) / len(views):.1%} scaled; these differ by {other.mean():.2f} levels "
        f"on average, {np.percentile(other.mean(1), 99):.2f} in the 99th percentile, {other.max():.0f} at most; PSNR median "
        f"{np.median(psnr):.1f} dB, least {psnr.min():.1f}"
    )
