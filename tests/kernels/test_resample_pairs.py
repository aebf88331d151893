"""Resampling by pairs of bytes against resampling byte by byte, and where its memory ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import types
from numba.extending import intrinsic

from deit_fast.kernels import filters, pairs, resample, resample_pairs, resample_singly
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.processor import has
from tests.guarded import GuardedMemory
from tests.scale import scaled

pytestmark = pytest.mark.skipif(not has("avx2"), reason="needs a processor with AVX2")


@settings(max_examples=scaled(200, 40))
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    outputs=st.tuples(st.integers(1, 97), st.integers(11, 97)),
    kind=st.sampled_from(sorted(filters.FILTERS.values())),
    mirrored=st.booleans(),
    data=st.data(),
)
def test_pairs_equal_single_bytes(  # type: ignore[no-untyped-def]
    seed: int, height: int, width: int, outputs: tuple[int, int], kind: int, mirrored: bool, data
) -> None:
    image = np.random.default_rng(seed).choice(np.array([0, 3, 128, 250, 255], np.uint8), (height, width, 3))
    axes = []
    for size, count in zip((height, width), outputs, strict=True):
        offset = data.draw(st.floats(0, size - 1))
        length = data.draw(st.floats(0.3, size - offset))
        first = data.draw(st.integers(-2, 2)) if count > 4 else 0
        axes.append((0, offset, length, size, count, first))
    sizes = resample.scratch_sizes(height, width, max(outputs), min(outputs))
    memory = [GuardedMemory(size) for size in (sizes[0], 4 * sizes[1])]
    views = []
    for how in (resample_singly, resample_pairs):
        rows, integers = memory[0].array(sizes[0], np.uint8, 7), memory[1].array(sizes[1], np.int32, 7)
        view = np.zeros((*outputs, 3), np.uint8)
        assert how.resample(image, *axes, kind, mirrored, rows, integers, view) in (None, True)
        views.append(view)
    np.testing.assert_array_equal(views[0], views[1])


@pytest.mark.parametrize("height, width, outputs", [(1, 1, 11), (17, 5, 32), (40, 64, 33), (33, 131, 48), (100, 30, 224)])
@pytest.mark.parametrize("kind", [filters.BICUBIC, filters.LANCZOS])
def test_no_byte_outside_the_arrays_is_touched(height: int, width: int, outputs: int, kind: int) -> None:
    sizes = resample.scratch_sizes(height, width, outputs)
    memory = [GuardedMemory(1 << 22) for _ in range(4)]
    image, view = memory[0].array((height, width, 3), np.uint8), memory[1].array((outputs, outputs, 3), np.uint8)
    rows, integers = memory[2].array(sizes[0], np.uint8), memory[3].array(sizes[1], np.int32)
    image[:] = np.random.default_rng(0).integers(0, 256, image.shape)
    vertical, horizontal = ((0, 0.0, float(size), size, outputs, 0) for size in (height, width))
    assert resample_pairs.resample(image, vertical, horizontal, kind, False, rows, integers, view)
    resample_singly.resample(image, vertical, horizontal, kind, False, rows, integers, singly := np.zeros_like(view))
    np.testing.assert_array_equal(view, singly)


def test_narrow_views_are_left_to_single_bytes() -> None:
    image, view = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 10, 3), np.uint8)
    rows, integers = (np.zeros(size, kind) for size, kind in zip(resample.scratch_sizes(9, 9, 9), "Bi", strict=True))
    axes = (0, 0.0, 9.0, 9, 9, 0), (0, 0.0, 9.0, 9, 10, 0)
    assert not resample_pairs.resample(image, *axes, filters.BICUBIC, False, rows, integers, view)


@intrinsic
def _packed(typing_context, first, second):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        low, high, is_large = pairs.packed(builder, *arguments)
        return context.make_tuple(builder, signature.return_type, (low, high, builder.not_(is_large)))

    return types.Tuple((types.int32, types.int32, types.boolean))(types.int32, types.int32), codegen


@compiled()
def _pack_pair(first, second):  # type: ignore[no-untyped-def]
    return _packed(np.int32(first), np.int32(second))


@given(first=st.integers(-(2**23), 2**23), second=st.integers(-(2**23), 2**23))
def test_a_pair_of_weights_is_kept_or_refused(first: int, second: int) -> None:
    low, high, is_small = _pack_pair(first, second)
    lows, highs = np.array([low], np.int32).view(np.int16), np.array([high], np.int32).view(np.int8)[:2]
    # what the instruction sums in 16 bits must not be cut off for any two bytes
    sums = [int(highs[0]) * a + int(highs[1]) * b for a in (0, 255) for b in (0, 255)]
    fits = max(map(abs, sums)) <= 2**15 - 1
    if is_small:
        assert fits
        assert [(int(h) << 16) + int(low) for low, h in zip(lows, highs, strict=True)] == [first, second]
    else:
        assert max(abs(first), abs(second)) > 2**21
