"""What follows from a model's answers, and what its first layer holds: worked examples and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deit_fast.looking.first_layer import first_filters, position_similarity, principal_components
from deit_fast.looking.outcomes import Outcomes, calibration
from deit_fast.looking.pictures import coloured, overlaid, side_by_side, stretched


def test_calibration_of_a_worked_example() -> None:
    """Two bins: 0.15 and 0.5 are right, with a mean of 0.325; 0.95 is right and 0.85 wrong, with a mean of 0.9."""
    found = calibration(np.array([0.95, 0.85, 0.15, 0.5]), np.array([True, False, True, True]), 2)
    assert found.error == pytest.approx(0.5 * (1 - 0.325) + 0.5 * (0.9 - 0.5))
    assert found.counts.tolist() == [2, 2]
    assert found.confidence == pytest.approx([0.325, 0.9])
    assert found.accuracy == pytest.approx([1.0, 0.5])
    assert np.isnan(calibration(np.array([1.0]), np.array([True]), 3).accuracy).tolist() == [True, True, False]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.integers(2, 15))
def test_calibration_is_the_formula(pairs: list[tuple[float, bool]], num_bins: int) -> None:
    confidence, is_correct = (np.array(values) for values in zip(*pairs, strict=True))
    wanted = 0.0
    for place in range(num_bins):
        low, high = place / num_bins, (place + 1) / num_bins
        inside = (np.ceil(confidence * num_bins) == place + 1) | ((place == 0) & (confidence == 0))
        assert all(low - 1e-9 <= value <= high + 1e-9 for value in confidence[inside])
        if inside.any():
            wanted += inside.mean() * abs(is_correct[inside].mean() - confidence[inside].mean())
    assert calibration(confidence, is_correct, num_bins).error == pytest.approx(wanted)


def outcomes() -> Outcomes:
    """Five images of three classes; the heads disagree on the third, and the decision is wrong on the third and the last."""
    labels = np.array([0, 1, 2, 2, 1])
    answers = {"class head": np.array([0, 1, 1, 2, 0]), "both heads": np.array([0, 1, 0, 2, 0]), "teacher": labels}
    confidence = np.array([0.9, 0.8, 0.6, 0.7, 0.95])
    numbers = (confidence, np.ones(5), np.ones(5, bool))
    return Outcomes(3, np.arange(10, 15), labels, answers, "both heads", *numbers)


def test_accuracies_confusion_and_disagreement() -> None:
    found = outcomes()
    assert found.accuracies() == pytest.approx({"class head": 60.0, "both heads": 60.0, "teacher": 100.0})
    assert found.confusion().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    names, table = found.disagreement()
    assert names == ["label", "class head", "both heads", "teacher"]
    assert table == pytest.approx(np.array([[0, 0.4, 0.4, 0], [0.4, 0, 0.2, 0.4], [0.4, 0.2, 0, 0.4], [0, 0.4, 0.4, 0]]))
    assert found.confidently_wrong(5).tolist() == [4, 2]
    assert found.confidently_wrong(1).tolist() == [4]


def test_filters_are_those_of_the_first_convolution() -> None:
    model = timm.create_model("resnet10t", num_classes=5)
    found = first_filters(model)
    assert found is not None
    words, filters = found
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert words == f"the {len(first.weight)} filters"
    np.testing.assert_array_equal(filters.transpose(0, 3, 1, 2), first.weight.detach().numpy())
    assert first_filters(nn.Linear(3, 3)) is None


def test_many_filters_are_shown_as_principal_components() -> None:
    model = timm.create_model("deit_tiny_patch16_224", num_classes=5)
    found = first_filters(model)
    assert found is not None
    assert (found[0], found[1].shape) == ("28 principal components of 192 filters", (28, 16, 16, 3))
    generator = np.random.Generator(np.random.PCG64(0))
    rows = (generator.normal(size=(50, 4)) * [1, 5, 0.1, 2]).astype(np.float32)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    for ours, wanted in zip(principal_components(rows, 2), vectors.T[np.argsort(-values)], strict=False):
        assert abs(ours @ wanted) == pytest.approx(1.0, abs=1e-5)


def test_similarity_of_positions_is_their_cosine() -> None:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    model = timm.create_model("deit_tiny_distilled_patch16_224", **sizes)
    found = position_similarity(model)
    assert found is not None
    positions = model.pos_embed.detach().numpy()[0, 2:]  # behind those of both tokens
    unit = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    np.testing.assert_allclose(found.reshape(16, 16), unit @ unit.T, atol=1e-6)
    assert position_similarity(timm.create_model("resnet10t")) is None


def test_pictures_of_maps_and_filters() -> None:
    levels = np.full((4, 4, 3), 100, np.uint8)
    picture = overlaid(levels, np.array([[0.0, 0.0], [0.0, 1.0]], np.float32))
    assert picture.shape == (224, 224, 3)
    assert picture[-1, -1].sum() > 3 * picture[0, 0].sum()  # from dark to bright
    filters = np.array([-1.0, 0.0, 0.5], np.float32).reshape(1, 1, 1, 3)
    assert stretched(filters).ravel().tolist() == [0.0, 0.5, 0.75]
    sheet = side_by_side(np.repeat(stretched(filters), 3, axis=0), 2, factor=2, gap=1)
    assert sheet.shape == (5, 5, 3)
    assert sheet[0, 0].tolist() == sheet[4, 0].tolist() == [0, 128, 191]
    assert sheet[2, 0].tolist() == sheet[4, 4].tolist() == [255, 255, 255]  # the gap, and the place that is left
    colours = coloured(torch.linspace(0, 1, 3).view(1, 1, 3).numpy(), 0.0, 1.0)
    assert colours.shape == (1, 1, 3, 3)
    assert colours[0, 0, 2].sum() > colours[0, 0, 0].sum()
