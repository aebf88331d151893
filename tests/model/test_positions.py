"""Position embeddings on another grid: equal to DeiT's way of doing it, and nearly as long as before."""

import math

import pytest
import torch
from timm.layers import resample_abs_pos_embed
from torch.nn import functional as F

from deit_fast.config import UserError
from deit_fast.model.positions import grid_of, interpolate_positions

GRIDS = [((14, 14), (24, 24)), ((14, 14), (7, 7)), ((4, 7), (6, 5)), ((3, 8), (8, 3))]


def _positions(prefix: int, grid: tuple[int, int], dim: int = 12) -> torch.Tensor:
    return torch.randn(1, prefix + math.prod(grid), dim, generator=torch.Generator().manual_seed(0))


def _smooth_positions(side: int, dim: int) -> torch.Tensor:
    """(1, dim, side, side): products of cosines with up to three waves a side, as smooth as learned positions are."""
    generator = torch.Generator().manual_seed(0)
    line = (torch.arange(side) + 0.5) / side
    frequency, phase = (high * torch.rand(2, dim, 1, generator=generator) for high in (6 * math.pi, 2 * math.pi))
    rows, columns = (frequency * line + phase).cos()
    return (rows[:, :, None] * columns[:, None, :])[None]


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_equals_deits_code(prefix: int, old: tuple[int, int], new: tuple[int, int]) -> None:
    positions = _positions(prefix, old)
    patches = positions[:, prefix:].reshape(1, *old, -1).permute(0, 3, 1, 2)
    wanted = F.interpolate(patches, size=new, mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(1, 2)
    got = interpolate_positions(positions, prefix, old, new)
    assert torch.equal(got, torch.cat([positions[:, :prefix], wanted], dim=1))


@pytest.mark.parametrize(("old", "new"), GRIDS)
def test_equals_timms_function_without_antialiasing(old: tuple[int, int], new: tuple[int, int]) -> None:
    positions = _positions(1, old)
    wanted = resample_abs_pos_embed(positions, new_size=list(new), old_size=list(old), antialias=False)
    assert torch.equal(interpolate_positions(positions, 1, old, new), wanted)
    antialiased = resample_abs_pos_embed(positions, new_size=list(new), old_size=list(old))
    assert not torch.allclose(wanted, antialiased, atol=1e-2)


def test_rows_stay_rows() -> None:
    """What depends on the row alone still does, on a grid that is not square."""
    rows = torch.arange(4.0)[:, None].expand(4, 7).reshape(1, 28, 1)
    got = interpolate_positions(rows, 0, (4, 7), (8, 5)).reshape(8, 5)
    torch.testing.assert_close(got, got[:, :1].expand(8, 5))
    assert bool((got[1:, 0] > got[:-1, 0]).all())


def test_bicubic_keeps_the_norm_and_bilinear_does_not() -> None:
    patches = _smooth_positions(14, 384)
    positions = patches.flatten(2).transpose(1, 2)
    before = positions.norm(dim=2).mean()
    for side in (24, 10):
        ratio = interpolate_positions(positions, 0, (14, 14), (side, side)).norm(dim=2).mean() / before
        assert ratio == pytest.approx(1.0, abs=0.02)
        bilinear = F.interpolate(patches, size=(side, side), mode="bilinear", align_corners=False)
        assert bilinear.norm(dim=1).mean() / before < 0.95


def test_the_same_grid_changes_nothing() -> None:
    positions = _positions(2, (3, 5))
    assert torch.equal(interpolate_positions(positions, 2, (3, 5), (3, 5)), positions)


def test_half_precision_stays() -> None:
    positions = _positions(1, (4, 4)).half()
    got = interpolate_positions(positions, 1, (4, 4), (6, 6))
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), interpolate_positions(positions.float(), 1, (4, 4), (6, 6)), atol=2e-3, rtol=1e-3)


def test_another_number_of_positions() -> None:
    with pytest.raises(ValueError, match="17 positions: want 2 and a grid of 4x4"):
        interpolate_positions(_positions(1, (4, 4)), 2, (4, 4), (5, 5))


def test_grid_of_a_number() -> None:
    assert [grid_of(number) for number in (1, 196, 576)] == [(1, 1), (14, 14), (24, 24)]
    with pytest.raises(UserError, match="195 positions of patches: fill no square grid"):
        grid_of(195)
