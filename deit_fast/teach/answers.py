"""Computes what one teacher or several answer to a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from deit_fast.config import DistilConfig, RunConfig, UserError
from deit_fast.train.schedule import has_changing_views
from deit_fast.train.step import autocast
from deit_fast.train.teacher import Teacher, create_teacher

Teachers = Sequence[tuple[str, Teacher]]  # the architecture of each, and the teacher


def create_teachers(config: RunConfig, num_classes: int, device: torch.device) -> Teachers:
    """The teachers of distil.teacher and teach.also, on a device. Raises UserError for one that does not fit."""
    sections = [config.distil, *(_section(config.distil, text) for text in config.teach.also)]
    return [
        (
            section.teacher,
            create_teacher(
                section,
                num_classes=num_classes,
                resolution=config.data.resolution,
                mean=config.augment.mean,
                std=config.augment.std,
                device=device,
                channels_last=config.train.channels_last,
                compile_mode=config.train.compile,
                attention=config.train.attention,
                has_other_sides=has_changing_views(config),
            ),
        )
        for section in sections
    ]


def _section(distil: DistilConfig, text: str) -> DistilConfig:
    name, separator, weights = text.partition(":")
    if not (name and separator and weights):
        raise UserError(f"teach.also={text}: want NAME:WEIGHTS, an architecture of timm and a file of its weights")
    return replace(distil, teacher=name, teacher_weights=weights, teacher_options={})


class Ensemble:
    """One teacher, or several by the mean of their softmaxes: gives the likeliest classes of images, with probabilities.

    top: how many classes; amp: precision of the teachers (off, bf16 or fp16).
    """

    def __init__(self, teachers: Teachers, top: int, amp: str, device: torch.device) -> None:
        self._teachers = [teacher for _, teacher in teachers]
        self._top, self._amp, self._device = top, amp, device

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classes (B, top) int64, the most likely first, and probabilities (B, top) float32 of images (B, 3, H, W), on the
        device. Of several teachers: by the mean of their softmaxes."""
        with autocast(self._amp, self._device):
            logits = [teacher(images) for teacher in self._teachers]
        if self._top == 1 and len(logits) == 1:  # as the loss takes the teacher's class, without a softmax that may tie
            classes = logits[0].argmax(dim=1, keepdim=True)
            return classes, torch.ones(classes.shape, device=classes.device)
        mean = torch.stack([one.float().softmax(dim=1) for one in logits]).mean(dim=0)
        probabilities, classes = mean.topk(self._top, dim=1)
        return classes, probabilities
