"""Colour jitter against torchvision's own draws."""

import numpy as np
import pytest
import scipy.stats
import torch
from torchvision.transforms import ColorJitter

from deit_fast.kernels.colour_jitter import draw_jitter
from deit_fast.kernels.operation_table import CODES

COUNT = 6000
KINDS = (CODES["brightness"], CODES["contrast"], CODES["color"])  # in torchvision's order


def _ours(strength: float) -> tuple[np.ndarray, np.ndarray]:
    codes, factors = np.full((COUNT, 5), -1, np.int32), np.zeros((COUNT, 5))
    for i in range(COUNT):
        draw_jitter(np.uint64(4), np.uint64(i), strength, 2, codes[i], factors[i])
    assert (codes[:, :2] == -1).all()  # steps before it are left alone
    return codes[:, 2:], factors[:, 2:]


@pytest.mark.parametrize("strength", [0.3, 0.4, 1.5])
def test_steps_are_distributed_as_torchvisions(strength: float) -> None:
    torch.manual_seed(0)
    jitter = ColorJitter(strength, strength, strength)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    orders, factors = [], []
    for _ in range(COUNT):
        order, *drawn, _ = jitter.get_params(*ranges)
        orders.append([KINDS[kind] for kind in order.tolist() if kind < 3])
        factors.append(drawn)
    ours, our_factors = _ours(strength)
    assert {tuple(sorted(row)) for row in ours.tolist()} == {tuple(sorted(KINDS))}

    names = sorted({tuple(order) for order in orders})
    counts = [[sum(tuple(row) == name for row in rows) for name in names] for rows in (orders, ours.tolist())]
    assert len(names) == 6
    assert scipy.stats.chi2_contingency(counts).pvalue > 1e-3
    for kind, theirs in zip(KINDS, np.array(factors).T, strict=True):
        assert scipy.stats.ks_2samp(our_factors[ours == kind], theirs).pvalue > 1e-3


def test_factors_have_nothing_to_do_with_each_other_or_the_order() -> None:
    codes, factors = _ours(0.4)
    columns = [factors[np.arange(COUNT), (codes == kind).argmax(1)] for kind in KINDS]
    columns += [(codes == kind).argmax(1) for kind in KINDS[:2]]
    correlation = np.corrcoef(columns)
    assert np.abs(correlation[:3] - np.eye(5)[:3]).max() < 0.06
