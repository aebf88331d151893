"""Tries before a run whether its model can process the run's images."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deit_fast.config import UserError


def check_resolutions(model: nn.Module, option: str, sides: Iterable[int], device: torch.device) -> None:
    """Raises UserError if a model does not take images of each of the sides, in pixels. option: names the model in the error.

    Nothing is tried if there is only one side: models are built for it."""
    sides = sorted(set(sides))
    if len(sides) == 1:
        return
    was_training = model.training
    model.eval()
    for side in sides:
        try:
            _show(model, 1, side, device)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{option}: the run has images of {', '.join(map(str, sides))} pixels, and the model does not take {side} "
                f"({_first_line(error)}); want data.start_resolution=off and data.eval_resolution=auto, or another model"
            ) from error
    model.train(was_training)


def check_single_image(model: nn.Module, piece: int, side: int, device: torch.device) -> None:
    """Raises UserError if a model cannot train on a piece of one image, because of its batch statistics.

    piece: images in the smallest piece of a batch; side: the smallest in pixels. With one image and one pixel a channel has one
    value, and no variance."""
    if piece > 1 or not any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        return
    try:
        _show(copy.deepcopy(model), 1, side, device)  # which moves batch statistics
    except ValueError as error:
        raise UserError(
            f"data.batch_size: the model's BatchNorm cannot train on one image, and a piece of a batch has only one "
            f"({_first_line(error)}); want a larger batch, or train.accumulate that divides it into pieces of two or more"
        ) from error


def smallest_piece(batch_size: int, num_pieces: int) -> int:
    """Images in the smallest piece of a batch, by train.accumulate."""
    largest = -(-batch_size // num_pieces)
    return batch_size % largest or largest


@torch.no_grad()
def _show(model: nn.Module, num_images: int, side: int, device: torch.device) -> None:
    model(torch.zeros(num_images, 3, side, side, device=device))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
