"""Takes the view ids of a batch, gives for each view its partner, and how it is mixed with it.

Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) in the three modes of timm's `Mixup`, all written as arrays over views:
one draw for the batch, one for each pair, one for each view. lambda, the share of the view itself, is corrected to the
clipped box.

The partner of view i is view i + shift, cyclically, with a shift drawn for the batch; in pair mode it is the view half a
batch apart, either way. Copies of an image lie next to each other, so with shift and its complement at least the number of
repeats no view is mixed with a copy of its own image. A batch of fewer than twice the repeats has no such shift: there the
shift is half the batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from deit_fast.kernels import rng
from deit_fast.kernels.compiled import compiled

PLAIN = 0
MIXUP = 1
CUTMIX = 2

BATCH = 0
PAIR = 1
ELEM = 2
MODES = {"batch": BATCH, "pair": PAIR, "elem": ELEM}


class Mixing(NamedTuple):
    """How batches are mixed; a named tuple, since Numba takes these as arguments. Made by `mixing`."""

    mode: int  # BATCH, PAIR or ELEM
    mixup_alpha: float  # of Beta(alpha, alpha); 0: no Mixup
    cutmix_alpha: float  # 0: no CutMix
    cutmix_low: float  # sides of CutMix's box as shares of the view's, uniform from low to high; both 0: from lambda
    cutmix_high: float
    probability: float  # of mixing at all
    cutmix_probability: float  # of CutMix, where both are on
    repeats: int  # neighbours that may show the same image


class Mix(NamedTuple):
    """The mix of a batch, made by `mix_of` or `unmixed`."""

    partner: np.ndarray  # (B,) int64: position in the batch of the other view, the own one where kind is PLAIN
    kind: np.ndarray  # (B,) int64: PLAIN, MIXUP or CUTMIX
    lam: np.ndarray  # (B,) float64: share of the view itself, in its pixels and in its target
    box: np.ndarray  # (B, 4) int64: y0, y1, x0, x1 that CutMix takes from the partner, else zeros


def mixing(
    mode: str,
    *,
    mixup: float,
    cutmix: float,
    probability: float,
    cutmix_probability: float,
    repeats: int,
    cutmix_minmax: tuple[float, float] | None = None,
) -> Mixing:
    """A `Mixing` with every number of the type that compiled code wants. With cutmix_minmax, CutMix is on (timm's alpha 1)."""
    low, high = cutmix_minmax or (0.0, 0.0)
    return Mixing(
        MODES[mode],
        float(mixup),
        1.0 if cutmix_minmax else float(cutmix),
        float(low),
        float(high),
        float(probability),
        float(cutmix_probability),
        int(repeats),
    )


def unmixed(count: int) -> Mix:
    """The mix of a batch of count views that leaves each as it is."""
    return Mix(np.arange(count), np.zeros(count, np.int64), np.ones(count), np.zeros((count, 4), np.int64))


@compiled()
def mix_of(seed, ids, how, height, width):  # type: ignore[no-untyped-def]
    """The `Mix` of a batch, in new arrays; arguments as for `draw_mix`."""
    count = len(ids)
    mix = Mix(np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.float64), np.empty((count, 4), np.int64))
    draw_mix(seed, ids, how, height, width, mix.partner, mix.kind, mix.lam, mix.box)
    return mix


@compiled()
def draw_mix(seed, ids, how, height, width, partner, kind, lam, box):  # type: ignore[no-untyped-def]
    """Fills the arrays of a `Mix` for a batch. ids (B,) uint64; how: a `Mixing`; height, width: of the views.

    A function of the seed and of the id of the first view of the batch, of the pair, or of each view. A batch of one is not
    mixed, nor is the last view of an odd batch in pair mode.
    """
    count = len(ids)
    shift = batch_shift(seed, ids[0], count, how.repeats)
    drawn, share, y0, y1, x0, x1 = view_mix(seed, ids[0], how, height, width)
    for i in range(count):
        drawn_by, other = paired(i, count, shift, how.mode)
        if how.mode != BATCH:
            drawn, share, y0, y1, x0, x1 = view_mix(seed, ids[drawn_by], how, height, width)
        if other == i or drawn == PLAIN:
            partner[i], kind[i], lam[i], box[i] = i, PLAIN, 1.0, 0
        else:
            partner[i], kind[i], lam[i] = other, drawn, share
            box[i, 0], box[i, 1], box[i, 2], box[i, 3] = y0, y1, x0, x1


@compiled()
def paired(i, count, shift, mode):  # type: ignore[no-untyped-def]
    """(whose view id draws for view i of a batch of count, its partner): views that stay single are their own partners.

    shift: from `batch_shift`; mode: BATCH, PAIR or ELEM.
    """
    if mode == PAIR:
        half = count // 2
        if i == 2 * half:
            return i, i
        return i % half, i + half if i < half else i - half
    return i if mode == ELEM else 0, (i + shift) % count


@compiled()
def batch_shift(seed, first_id, count, repeats):  # type: ignore[no-untyped-def]
    """How far apart partners are in a batch of count views that begins with first_id; 0 for a batch of one."""
    if count < 2 * repeats:
        return np.int64(count // 2)
    u = rng.uniforms(seed, first_id, rng.MIX, 0)[2]
    return repeats + rng.below(u, count - 2 * repeats + 1)


@compiled()
def view_mix(seed, view_id, how, height, width):  # type: ignore[no-untyped-def]
    """(PLAIN, MIXUP or CUTMIX, lambda, y0, y1, x0, x1) as drawn by one view id, for itself, its pair or its batch."""
    zero = np.int64(0)
    u0, u1, _, _ = rng.uniforms(seed, view_id, rng.MIX, 0)
    if u0 >= how.probability or (how.mixup_alpha <= 0.0 and how.cutmix_alpha <= 0.0):
        return PLAIN, 1.0, zero, zero, zero, zero
    use_cutmix = how.cutmix_alpha > 0.0 and (how.mixup_alpha <= 0.0 or u1 < how.cutmix_probability)
    alpha = how.cutmix_alpha if use_cutmix else how.mixup_alpha
    lam = rng.symmetric_beta(seed, view_id, rng.MIX, 2, alpha)
    if not use_cutmix:
        return MIXUP, lam, zero, zero, zero, zero
    u0, u1, u2, u3 = rng.uniforms(seed, view_id, rng.MIX, 1)
    if how.cutmix_high > 0.0:
        y0, y1 = minmax_side(u0, u2, height, how.cutmix_low, how.cutmix_high)
        x0, x1 = minmax_side(u1, u3, width, how.cutmix_low, how.cutmix_high)
    else:
        y0, y1, x0, x1 = cutmix_box(lam, rng.below(u0, height), rng.below(u1, width), height, width)
    return CUTMIX, 1.0 - (y1 - y0) * (x1 - x0) / (height * width), y0, y1, x0, x1


@compiled()
def cutmix_box(lam, centre_y, centre_x, height, width):  # type: ignore[no-untyped-def]
    """Box (y0, y1, x0, x1) with a share 1 - lam of the area around a centre, clipped to the image, as timm 1.0.31's
    `rand_bbox` has it (an odd side reaches one pixel further down and right; timm 0.3.2 cut it to an even one)."""
    share = math.sqrt(1.0 - lam)
    box_height, box_width = np.int64(height * share), np.int64(width * share)
    y0 = max(centre_y - box_height // 2, np.int64(0))
    y1 = min(centre_y + (box_height + 1) // 2, np.int64(height))
    x0 = max(centre_x - box_width // 2, np.int64(0))
    x1 = min(centre_x + (box_width + 1) // 2, np.int64(width))
    return y0, y1, x0, x1


@compiled()
def minmax_side(uniform_length, uniform_begin, side, low, high):  # type: ignore[no-untyped-def]
    """(begin, end) of a box along one side, as timm's `rand_bbox_minmax` draws it: a length from int(low side) up to, not
    including, int(high side), anywhere. Where these are equal, which timm refuses, that is the length."""
    shortest, longest = np.int64(side * low), np.int64(side * high)
    length = shortest + rng.below(uniform_length, max(longest - shortest, np.int64(1)))
    begin = rng.below(uniform_begin, side - length + 1)
    return begin, begin + length


@compiled()
def soft_targets(labels, partner, lam, smoothing, targets):  # type: ignore[no-untyped-def]
    """targets[i] = smoothed one-hot label i, mixed as the images are.

    labels (B,) int64 in 0 to C - 1; partner (B,) int64 and lam (B,) float64 of a `Mix`; targets (B, C) float32, written:
    smoothing / C everywhere, and 1 - smoothing more at the labels, lam of it at the view's own and 1 - lam at its partner's.
    """
    count, num_classes = targets.shape
    targets[:] = smoothing / num_classes
    for i in range(count):
        targets[i, labels[i]] += (1.0 - smoothing) * lam[i]
        targets[i, labels[partner[i]]] += (1.0 - smoothing) * (1.0 - lam[i])
