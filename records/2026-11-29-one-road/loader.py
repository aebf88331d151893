"""Prints views per second of training and evaluation loaders of a beton, whichever version of deit_fast is imported."""

import importlib
import importlib.util
import sys
import time

import torch

from deit_fast.config import AugmentConfig, DataConfig

BETON, SECONDS = sys.argv[1], 1.5
IS_NEW = importlib.util.find_spec("deit_fast.data.load") is not None
loader = importlib.import_module("deit_fast.data.load.loader" if IS_NEW else "deit_fast.data.loader")
place = {"rank": 0, "world_size": 1, "device": torch.device("cpu")}
data = DataConfig(train=BETON, val=BETON, batch_size=96)
loaders = {
    "recipe3": loader.train_loader(data, AugmentConfig(), seed=0, **place),
    "eval": loader.eval_loader(data, AugmentConfig(), **place),
}
for name, one in loaders.items():
    for _ in one:
        pass
    num_views, epoch, started = 0, 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS or epoch == 0:
        epoch += 1
        if name != "eval":
            one.set_epoch(epoch)
        num_views += sum(len(batch.images) for batch in one)
    print("new" if IS_NEW else "old", name, round(num_views / (time.perf_counter() - started)))
    one.close()
