"""`deit-fast predict`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.predict.predict import predict_images

    return predict_images(call.config)


COMMAND = Command(
    "classify images with a trained model",
    takes=(
        "predict",
        *of("eval", "weights", "flip", "heads", "fusion"),
        *of("model", "name", "options", "blurpool"),
        *of("data", "eval_batch_size", "eval_resolution", "eval_crop_ratio", "num_workers", "batches_ahead"),
        *of("train", "device", "amp", "channels_last"),
        "write.max_megapixels",
    ),
    run=_run,
    usual=(
        *of("predict", "model", "images", "top", "csv", "on_error"),
        *of("data", "eval_batch_size", "num_workers"),
        *of("train", "device", "amp"),
    ),
    first="predict.model",
    positional="predict.images",
)
