"""Train a DeiT from Python, on the digits that `deit-fast demo` leaves in runs/demo/digits. Words: epochs, run folder."""

from __future__ import annotations

import sys

from deit_fast import (
    AugmentConfig,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    RunSection,
    ScheduleConfig,
    TrainConfig,
    evaluate_checkpoint,
    train_classifier,
)

epochs, folder = int(sys.argv[1]), sys.argv[2]
data = DataConfig(
    train="runs/demo/digits/train.beton", val="runs/demo/digits/val.beton", batch_size=64, resolution=32, eval_crop_ratio=1.0
)
config = RunConfig(  # options that are left out have the defaults that `deit-fast train --help` lists: DeiT's recipe
    data=data,
    augment=AugmentConfig(flip=0.0, crop_scale=(0.5, 1.0)),
    model=ModelConfig(name="deit_tiny_patch16_224", options={"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}),
    schedule=ScheduleConfig(warmup_epochs=1, update="step"),
    optim=OptimConfig(lr=1e-3, lr_batch_size=64),
    train=TrainConfig(epochs=epochs, eval_every=epochs, ema_decay=0.99),
    run=RunSection(dir=folder),
)
summary = train_classifier(config)
result = evaluate_checkpoint(RunConfig(data=data, eval=EvalConfig(checkpoint=f"{folder}/checkpoints/best.pt")))
print(f"top-1 {result['top1']:.2f} % after {summary['wall_seconds']:.0f} s")
