"""All that an analysis finds about a model, and its numbers as JSON takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from deit_fast.looking.attention import AttentionMaps
from deit_fast.looking.outcomes import Calibration, Outcomes
from deit_fast.model.create import num_parameters
from deit_fast.train.trained import Trained


@dataclass(frozen=True, eq=False)
class Findings:
    """What an analysis finds.

    val: betons of the validation set. cosines: of class and distillation token, before the first block and after each. wrong:
    indices of images in the outcomes; wrong_levels: their grey levels (n, H, W, 3). titles, levels, maps: of the images whose
    attention is shown.
    """

    trained: Trained
    model: nn.Module
    val: str
    remarks: list[str]
    class_names: list[str]
    outcomes: Outcomes
    calibration: Calibration
    cosines: list[float]
    wrong: NDArray[np.int64]
    wrong_levels: NDArray[np.uint8]
    titles: list[str]
    levels: NDArray[np.uint8]
    maps: AttentionMaps | None

    def by_class(self) -> list[dict[str, Any]]:
        """Of each class with images: its name, number of images, accuracy in percent, and what it is most often taken for."""
        rows = []
        for label, counts in enumerate(self.outcomes.confusion()):
            if not counts.sum():
                continue
            others = counts.copy()
            others[label] = 0
            taken_for = int(others.argmax())
            rows.append(
                {
                    "class": self.class_names[label],
                    "num_images": int(counts.sum()),
                    "top1": 100 * float(counts[label] / counts.sum()),
                    "taken_for": self.class_names[taken_for] if others[taken_for] else None,
                    "taken_for_count": int(others[taken_for]),
                }
            )
        return rows

    def confusions(self) -> list[tuple[int, int, int]]:
        """Label, predicted class and number of images of each confusion that occurs, the most frequent first."""
        table = self.outcomes.confusion()
        np.fill_diagonal(table, 0)
        labels, predicted = np.nonzero(table)
        rows = zip(labels.tolist(), predicted.tolist(), table[labels, predicted].tolist(), strict=True)
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


def as_result(findings: Findings) -> dict[str, Any]:
    """All numbers of an analysis. Shares are 0 to 1, accuracies in percent."""
    outcomes, calibration = findings.outcomes, findings.calibration
    names, disagreement = outcomes.disagreement()
    return {
        "checkpoint": findings.trained.path,
        "weights": findings.trained.weights_name,
        "model": findings.trained.model.name,
        "epoch": findings.trained.epoch,
        "num_parameters": num_parameters(findings.model),
        "val": findings.val,
        "num_images": len(outcomes.labels),
        "decider": outcomes.decider,
        "top1": 100 * float(outcomes.is_correct.mean()),
        "top5": 100 * float(outcomes.is_in_top5.mean()),
        "loss": float(outcomes.loss.mean()),
        "accuracies": outcomes.accuracies(),
        "disagreement": {
            name: dict(zip(names, row, strict=True)) for name, row in zip(names, disagreement.tolist(), strict=True)
        },
        "token_cosines": findings.cosines,
        "classes": findings.by_class(),
        "confusions": [
            {"label": findings.class_names[label], "predicted": findings.class_names[predicted], "num_images": count}
            for label, predicted, count in findings.confusions()
        ],
        "calibration": {
            "expected_error": calibration.error,
            "num_images": calibration.counts.tolist(),
            "confidence": calibration.confidence.tolist(),
            "accuracy": calibration.accuracy.tolist(),
        },
        "confidently_wrong": [
            {
                "sample": int(outcomes.samples[index]),
                "label": findings.class_names[outcomes.labels[index]],
                "predicted": findings.class_names[outcomes.predicted[index]],
                "confidence": float(outcomes.confidence[index]),
            }
            for index in findings.wrong
        ],
        "attention": _attention(findings),
        "remarks": findings.remarks,
    }


def _attention(findings: Findings) -> list[dict[str, Any]]:
    """For each image shown, the rollout of its tokens and the last layer's attention by head, on the grid of patches."""
    maps = findings.maps
    if maps is None:
        return []
    return [
        {
            "image": title,
            "rollout": {token: rolled[index].tolist() for token, rolled in maps.rollout.items()},
            "last_layer": maps.layers[-1][index].tolist(),
        }
        for index, title in enumerate(findings.titles)
    ]
