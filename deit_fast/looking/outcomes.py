"""Computes a model's predictions on a validation set, and from them accuracies, confusion and calibration."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from deit_fast.config import EvalConfig
from deit_fast.data.load.loader import Loader
from deit_fast.model.attention_kernel import attention_kernel
from deit_fast.model.heads import fuse, head_logits
from deit_fast.train.step import autocast, on_device
from deit_fast.train.teacher import Teacher

TEACHER = "teacher"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Answers on N images. samples: their numbers; labels: their classes, both (N,) int64.

    answers: the class that each part of the model says, and the teacher's, (N,) int64 by its name. decider: the name of the one
    by which the model decides. confidence: its probability of the class that it says; loss: its cross-entropy; is_in_top5:
    whether the label is among its five likeliest classes.
    """

    num_classes: int
    samples: NDArray[np.int64]
    labels: NDArray[np.int64]
    answers: Mapping[str, NDArray[np.int64]]
    decider: str
    confidence: NDArray[np.float64]
    loss: NDArray[np.float64]
    is_in_top5: NDArray[np.bool_]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The classes by which the model decides, (N,)."""
        return self.answers[self.decider]

    @property
    def is_correct(self) -> NDArray[np.bool_]:
        return self.predicted == self.labels

    def accuracies(self) -> dict[str, float]:
        """Top-1 in percent of each part and of the teacher."""
        return {name: 100 * float((said == self.labels).mean()) for name, said in self.answers.items()}

    def disagreement(self) -> tuple[list[str], NDArray[np.float64]]:
        """Names, and for each pair of them the share of images of which they say different classes (arXiv 2012.12877, Table 4).

        The first is the label itself, with which a part disagrees where it is wrong.
        """
        said = {"label": self.labels, **self.answers}
        table = np.array([[(one != other).mean() for other in said.values()] for one in said.values()])
        return list(said), table

    def confusion(self) -> NDArray[np.int64]:
        """Number of images (num_classes, num_classes) by label, then predicted class."""
        counts = np.bincount(self.labels * self.num_classes + self.predicted, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    def confidently_wrong(self, count: int) -> NDArray[np.int64]:
        """Indices of up to count images on which the model is wrong, the surest first."""
        wrong = np.flatnonzero(~self.is_correct)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:count]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How well confidence matches accuracy.

    error: expected calibration error, 0 to 1. counts, confidence, accuracy: number of images and means in each bin, NaN in an
    empty one; the bins of confidence have equal widths from 0 to 1.
    """

    error: float
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def calibration(confidence: NDArray[np.float64], is_correct: NDArray[np.bool_], num_bins: int) -> Calibration:
    """The calibration on N images; its error is the mean over images of |accuracy - confidence| of their bin (Guo et al., ICML
    2017, equation 3).

    A bin has its upper end and not its lower one. confidence (N,) in 0 to 1; is_correct (N,).
    """
    bins = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    sums = [np.bincount(bins, weights=values, minlength=num_bins) for values in (confidence, is_correct)]
    with np.errstate(invalid="ignore"):
        sure, right = (total / counts for total in sums)
    error = float(np.abs(sums[1] - sums[0]).sum() / len(confidence))
    return Calibration(error, counts, sure, right)


@torch.inference_mode()
def outcomes_of(
    model: nn.Module,
    loader: Loader,
    device: torch.device,
    config: EvalConfig,
    *,
    num_classes: int,
    labels: NDArray[np.int64] | None,
    teacher: Teacher | None,
    amp: str,
    channels_last: bool,
    attention: str,
) -> Outcomes:
    """Shows each image of an evaluation loader to a model, and to a teacher if there is one.

    labels: for each label of the set, the model's; None: they are the same. amp, attention: as in training.
    """
    found: dict[str, list[torch.Tensor]] = {}
    decider = ""
    with contextlib.closing(on_device(loader, device, channels_last=channels_last)) as batches:
        for batch in batches:
            with autocast(amp, device), attention_kernel(attention):
                heads = head_logits(model, batch.images)
                theirs = None if teacher is None else teacher(batch.images)
            class_logits, distillation_logits = (None if one is None else one.float() for one in heads)
            assert class_logits is not None
            decided = fuse(class_logits, distillation_logits, config.heads, config.fusion)
            answers = {"model": decided}
            if distillation_logits is not None:
                both = fuse(class_logits, distillation_logits, "both", config.fusion)
                answers = {"class head": class_logits, "distillation head": distillation_logits, "both heads": both}
            if theirs is not None:
                answers[TEACHER] = theirs
            decider = _decider(heads[1] is not None, config)
            targets = batch.targets if labels is None else torch.from_numpy(labels).to(device)[batch.targets]
            probabilities = decided.double().softmax(1)
            best = decided.topk(min(5, decided.shape[1]), dim=1).indices
            row = {
                "samples": batch.samples,
                "labels": targets,
                "confidence": probabilities.amax(1),
                "loss": F.cross_entropy(decided, targets, reduction="none"),
                "is_in_top5": (best == targets[:, None]).any(1),
                **{f"answer {name}": logits.argmax(1) for name, logits in answers.items()},
            }
            for name, values in row.items():
                found.setdefault(name, []).append(values.cpu())
    whole = {name: torch.cat(values).numpy() for name, values in found.items()}
    answers_by_name = {name.removeprefix("answer "): values for name, values in whole.items() if name.startswith("answer ")}
    numbers = (whole["confidence"], whole["loss"].astype(np.float64), whole["is_in_top5"])
    return Outcomes(num_classes, whole["samples"], whole["labels"], answers_by_name, decider, *numbers)


def _decider(is_distilled: bool, config: EvalConfig) -> str:
    if not is_distilled:
        return "model"
    return "both heads" if config.heads == "both" else f"{config.heads} head"
