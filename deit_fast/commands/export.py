"""`deit-fast export`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.export.export import export_model

    return export_model(call.config)


COMMAND = Command(
    "write a trained model as safetensors, timm's folder, ONNX or torch.export",
    takes=(
        "export",
        *of("eval", "weights", "heads", "fusion"),
        *of("model", "name", "options", "blurpool"),
        *of("data", "eval_resolution", "eval_crop_ratio"),
    ),
    run=_run,
    positional="export.checkpoint",
    prints_result=False,
)
