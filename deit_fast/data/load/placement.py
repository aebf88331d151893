"""Checks that decoding and augmentation can run on this machine where the options put them."""

from __future__ import annotations

import torch

from deit_fast.config import AugmentConfig, DataConfig, UserError, check_placement


def check_device(config: DataConfig, augment: AugmentConfig, device: torch.device) -> None:
    """Raises UserError, one line that says what is missing, if an option needs something that this machine lacks.

    Looks for numba-cuda only if an option other than cpu asks for it; no other code does.
    """
    check_placement(config, augment)
    if config.decode == augment.device == "cpu":
        return
    if "auto" in (config.decode, augment.device):
        raise UserError("data.decode=auto, augment.device=auto: are decided where models train; want cpu or gpu here")
    option = f"augment.device={augment.device}" if augment.device != "cpu" else f"data.decode={config.decode}"
    try:
        from deit_fast.kernels.cuda import driver as cuda

        cuda.check_device()
    except UserError as error:
        raise UserError(f"{option}: {error}; or choose cpu") from error
    if device.type != "cuda" and not cuda.SIMULATED:
        raise UserError(f"{option}: needs a CUDA device, and this run is on {device.type}; see train.device")
