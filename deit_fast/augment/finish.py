"""Takes a batch of uint8 views and their labels, gives normalised, mixed float images and soft targets.

Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) as timm's `Mixup` applies them in batch mode: one of the two for the
whole batch, one lambda, corrected to the clipped box. The partner of view i is view i + shift of the batch, cyclically: with
shift and its complement at least the number of repeats, no view is mixed with a copy of its own image, since copies lie next
to each other. A batch of fewer than twice the repeats has no such shift; it is paired half a batch apart.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from deit_fast.augment import rng
from deit_fast.augment.compiled import compiled

PLAIN = 0
MIXUP = 1
CUTMIX = 2


@compiled()
def mixing(seed, first_id, count, height, width, repeats, alphas, probabilities):  # type: ignore[no-untyped-def]
    """How a batch is mixed: (PLAIN, MIXUP or CUTMIX, lambda, shift, y0, y1, x0, x1).

    A function of the seed and of the id of the batch's first view. alphas: of Mixup and CutMix, 0 for off; probabilities: of
    mixing at all, and of CutMix where both are on. A batch of one is not mixed. lambda is the share of the view itself.
    """
    nothing = (PLAIN, 1.0, np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0))
    mixup_alpha, cutmix_alpha = alphas
    u0, u1, u2, _ = rng.uniforms(seed, first_id, rng.MIX, 0)
    if u0 >= probabilities[0] or count < 2 or (mixup_alpha <= 0.0 and cutmix_alpha <= 0.0):
        return nothing
    use_cutmix = cutmix_alpha > 0.0 and (mixup_alpha <= 0.0 or u1 < probabilities[1])
    shift = np.int64(count // 2)
    if count >= 2 * repeats:
        shift = repeats + rng.below(u2, count - 2 * repeats + 1)
    alpha = cutmix_alpha if use_cutmix else mixup_alpha
    lam = rng.symmetric_beta(seed, first_id, rng.MIX, 2, alpha)
    if not use_cutmix:
        return MIXUP, lam, shift, np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    u0, u1, _, _ = rng.uniforms(seed, first_id, rng.MIX, 1)
    y0, y1, x0, x1 = cutmix_box(lam, rng.below(u0, height), rng.below(u1, width), height, width)
    lam = 1.0 - (y1 - y0) * (x1 - x0) / (height * width)
    return CUTMIX, lam, shift, y0, y1, x0, x1


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


@compiled(parallel=True)
def normalize_and_mix(views, mix, mean, std, images):  # type: ignore[no-untyped-def]
    """images[i] = lam * normalised views[i] + (1 - lam) * normalised views[i + shift], or with the partner's box pasted.

    views (B, H, W, 3) uint8; mix from `mixing`; mean and std (3,) float64 in units of 255 grey levels; images (B, H, W, 3)
    float32, written. One pass over the bytes: a row is one loop over W x 3 values, with a factor and an offset for each.
    """
    kind, lam, shift, y0, y1, x0, x1 = mix
    count, height, width = views.shape[0], views.shape[1], views.shape[2]
    length = 3 * width
    factor, offset = np.empty(length, np.float32), np.empty(length, np.float32)
    for i in range(length):
        factor[i] = 1.0 / (255.0 * std[i % 3])
        offset[i] = -mean[i % 3] / std[i % 3]
    own, others = np.float32(lam), np.float32(1.0 - lam)
    for b in prange(count):
        partner = (b + shift) % count
        for y in range(height):
            row, out = views[b, y].reshape(length), images[b, y].reshape(length)
            other = views[partner, y].reshape(length)
            if kind == MIXUP:
                for i in range(length):
                    mixed = own * np.float32(row[i]) + others * np.float32(other[i])
                    out[i] = mixed * factor[i] + offset[i]
            else:
                for i in range(length):
                    out[i] = np.float32(row[i]) * factor[i] + offset[i]
                if kind == CUTMIX and y0 <= y < y1:
                    for i in range(3 * x0, 3 * x1):
                        out[i] = np.float32(other[i]) * factor[i] + offset[i]


@compiled()
def soft_targets(labels, mix, smoothing, targets):  # type: ignore[no-untyped-def]
    """targets[i] = smoothed one-hot label i, mixed as the images are.

    labels (B,) int64 in 0 to C - 1; targets (B, C) float32, written: smoothing / C everywhere, and 1 - smoothing more at
    the labels, lam of it at the view's own and 1 - lam at its partner's.
    """
    _, lam, shift, _, _, _, _ = mix
    count, num_classes = targets.shape
    targets[:] = smoothing / num_classes
    for i in range(count):
        targets[i, labels[i]] += (1.0 - smoothing) * lam
        targets[i, labels[(i + shift) % count]] += (1.0 - smoothing) * (1.0 - lam)
