"""Takes (seed, epoch, sample, view, operation), gives random numbers that are a pure function of them.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), which is counter-based:
no state, so any thread, rank or device computes the same number for the same view. Key: the 64-bit seed. Counter: word 0
holds operation << 16 | block, words 1 and 2 the view id, word 3 the row of the view for what is drawn for each pixel, else
zero. One block gives four 32-bit words.

A view id packs where a view comes from into one uint64: epoch << 48 | view << 40 | sample. It travels as FFCV's batch index,
so an operation needs no other state than the seed.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.normal import normal_pair

# Operations that draw. A number once given is never changed: it is part of what a seed means.
ORDER = 1
CROP = 2
FLIP = 3
MIX = 4
POLICY = 5  # RandAugment, AutoAugment, 3-Augment
JITTER = 6  # colour jitter
ERASE = 7  # the box of random erasing
NOISE = 8  # what the box is filled with

MAX_SAMPLES = 1 << 40
MAX_VIEWS = 1 << 8
MAX_EPOCHS = 1 << 16

_MASK32 = np.uint64(0xFFFFFFFF)
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_WORD = np.uint64(32)
_SAMPLE_MASK = np.uint64(MAX_SAMPLES - 1)
_VIEW_MASK = np.uint64(MAX_VIEWS - 1)
_VIEW_SHIFT = np.uint64(40)
_EPOCH_SHIFT = np.uint64(48)


@compiled(inlined=True)
def _round(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    product_0 = _MULTIPLIER_0 * c0
    product_1 = _MULTIPLIER_1 * c2
    return (product_1 >> _WORD) ^ c1 ^ k0, product_1 & _MASK32, (product_0 >> _WORD) ^ c3 ^ k1, product_0 & _MASK32


@compiled(inlined=True)
def _next_key(k0, k1):  # type: ignore[no-untyped-def]
    return (k0 + _WEYL_0) & _MASK32, (k1 + _WEYL_1) & _MASK32


@compiled(inlined=True)
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox4x32 with 10 rounds: four 32-bit words (in uint64) from a counter of four and a key of two.

    The rounds are written out, since LLVM vectorises no loop that has a loop in it: a row of noise takes a sixth of the time.
    """
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = _next_key(k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    return c0, c1, c2, c3


@compiled(inlined=True)
def words_at(seed, view_id, operation, row, block):  # type: ignore[no-untyped-def]
    """Four 32-bit words (in uint64) for one block of what `operation` draws for a row of a view; block: 0 to 65535."""
    seed = np.uint64(seed)
    view_id = np.uint64(view_id)
    head = np.uint64(operation) << np.uint64(16) | np.uint64(block)
    return philox(head, view_id & _MASK32, view_id >> _WORD, np.uint64(row), seed & _MASK32, seed >> _WORD)


@compiled()
def words(seed, view_id, operation, block):  # type: ignore[no-untyped-def]
    """Four 32-bit words (in uint64) for one block of what `operation` draws for a view; block counts from 0 to 65535."""
    return words_at(seed, view_id, operation, 0, block)


@compiled()
def uniforms(seed, view_id, operation, block):  # type: ignore[no-untyped-def]
    """Four independent float64 uniform on [0, 1), each with 32 random bits."""
    a, b, c, d = words(seed, view_id, operation, block)
    unit = 2.0**-32
    return a * unit, b * unit, c * unit, d * unit


@compiled(inlined=True)
def normals_at(seed, view_id, operation, row, block):  # type: ignore[no-untyped-def]
    """Four independent float32 standard normals for one block of what `operation` draws for a row of a view."""
    a, b, c, d = words_at(seed, view_id, operation, row, block)
    first, second = normal_pair(a, b)
    third, fourth = normal_pair(c, d)
    return first, second, third, fourth


@compiled()
def normals(seed, view_id, operation, block):  # type: ignore[no-untyped-def]
    """Four independent float32 standard normals for one block of what `operation` draws for a view."""
    return normals_at(seed, view_id, operation, 0, block)


@compiled()
def below(uniform, count):  # type: ignore[no-untyped-def]
    """Integer 0 to count - 1 from a uniform on [0, 1)."""
    return np.int64(uniform * count)


@compiled()
def _gamma(seed, view_id, operation, block, alpha):  # type: ignore[no-untyped-def]
    """(Gamma(alpha, 1), next unused block), after Marsaglia and Tsang, ACM TOMS 26(3), 2000; alpha < 1 by their section 6."""
    boosted = alpha + 1.0 if alpha < 1.0 else alpha
    d = boosted - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        u0, u1, u2, u3 = uniforms(seed, view_id, operation, block)
        block += 1
        normal = math.sqrt(-2.0 * math.log(1.0 - u0)) * math.cos(2.0 * math.pi * u1)
        v = (1.0 + c * normal) ** 3
        # 1 - u lies in (0, 1], so its logarithm is finite
        if v > 0.0 and math.log(1.0 - u2) < 0.5 * normal * normal + d - d * v + d * math.log(v):
            value = d * v
            if alpha < 1.0:
                value *= (1.0 - u3) ** (1.0 / alpha)
            return value, block


@compiled()
def symmetric_beta(seed, view_id, operation, block, alpha):  # type: ignore[no-untyped-def]
    """Beta(alpha, alpha) in [0, 1] from blocks `block` onwards, as the ratio of two gammas; alpha > 0."""
    first, block = _gamma(seed, view_id, operation, block, alpha)
    second, _ = _gamma(seed, view_id, operation, block, alpha)
    total = first + second
    return first / total if total > 0.0 else 0.5


@compiled()
def sample_of(view_id):  # type: ignore[no-untyped-def]
    """Sample number of a view id; scalar or array, uint64."""
    return view_id & _SAMPLE_MASK


@compiled()
def view_of(view_id):  # type: ignore[no-untyped-def]
    """View number of a view id; scalar or array, uint64."""
    return (view_id >> _VIEW_SHIFT) & _VIEW_MASK


def pack_view_ids(epoch: int, samples: np.ndarray, views: np.ndarray) -> np.ndarray:
    """View ids, uint64, of samples and views (integer arrays of one shape) in an epoch."""
    assert 0 <= epoch < MAX_EPOCHS
    ids = samples.astype(np.uint64) | views.astype(np.uint64) << _VIEW_SHIFT
    return ids | np.uint64(epoch) << _EPOCH_SHIFT


@compiled()
def _order_keys(seed, epoch, count):  # type: ignore[no-untyped-def]
    keys = np.empty(count, np.uint64)
    base = np.uint64(epoch) << _EPOCH_SHIFT
    for sample in range(count):
        a, b, _, _ = words(seed, base | np.uint64(sample), ORDER, 0)
        keys[sample] = a << _WORD | b
    return keys


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Random order of 0 to count - 1, int64 (count,): the samples sorted by 64-bit keys drawn for each."""
    return np.argsort(_order_keys(np.uint64(seed), epoch, count), kind="stable")
