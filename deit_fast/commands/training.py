"""Options that several commands about training share."""

from __future__ import annotations

from deit_fast.commands.command import of

# of a run
RUN = (
    *("data", "augment", "model", "distil", "optim", "schedule", "train", "run", "budget"),
    *of("eval", "flip", "heads", "fusion"),
)
USUAL = (
    *of("data", "train", "val", "batch_size", "resolution"),
    *("model.name", "model.weights", "distil.kind", "distil.teacher_weights", "optim.lr", "train.epochs", "train.compile"),
    *("run.dir", "run.dollars_per_hour"),
)
# of a single training step; the rest of the section `train` is about epochs, records and checkpoints
STEP = (
    *("model", "distil", "optim", "schedule"),
    *of("train", "epochs", "seed", "amp", "channels_last", "compile", "attention", "patch_embed", "loss", "bce_threshold"),
    *of("train", "mode", "sync_batchnorm", "accumulate", "gradient_compression", "ema_decay", "ema_warmup"),
)
