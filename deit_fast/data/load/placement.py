"""Checks that decoding and augmentation can run on this machine where the options put them."""

from __future__ import annotations

from typing import Literal

import torch

from deit_fast.config import AugmentConfig, DataConfig, UserError, check_placement


def check_device(config: DataConfig, augment: AugmentConfig, device: torch.device) -> None:
    """Raises UserError, one line that says what is missing, if training needs something that this machine lacks.

    Looks for numba-cuda only if an option other than cpu asks for it; no other code does.
    """
    check_placement(config, augment)
    if config.decode == augment.device == "cpu":
        return
    if "auto" in (config.decode, augment.device):
        raise UserError("data.decode=auto, augment.device=auto: are decided where models train; want cpu or gpu here")
    _check_gpu("augment.device=gpu", device)


def eval_place(config: DataConfig, device: torch.device) -> Literal["cpu", "gpu"]:
    """Where evaluation views are decoded and finished: data.decode; for auto on the GPU where that is possible.

    Raises UserError, one line that says what is missing, if data.decode=gpu needs something that this machine lacks.
    """
    if config.decode == "cpu":
        return "cpu"
    try:
        if config.dtype == "uint8":
            raise UserError("data.dtype=uint8: not possible with data.decode=gpu; want data.decode=cpu, or another dtype")
        _check_gpu("data.decode=gpu", device)
    except UserError:
        if config.decode == "auto":
            return "cpu"
        raise
    return "gpu"


def _check_gpu(option: str, device: torch.device) -> None:
    try:
        from deit_fast.kernels.cuda import driver as cuda

        cuda.check_device()
    except UserError as error:
        raise UserError(f"{option}: {error}; or choose cpu") from error
    if device.type != "cuda" and not cuda.SIMULATED:
        raise UserError(f"{option}: needs a CUDA device, and this run is on {device.type}; see train.device")
