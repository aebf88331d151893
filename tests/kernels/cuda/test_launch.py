"""Arguments reach the driver as the compiled kernels read them: one pointer for each parameter of the machine code."""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numba import types

pytest.importorskip("numba_cuda")

from deit_fast.config import AugmentConfig
from deit_fast.data.load.gpu_decode import Decoded, DeviceMemory, decode_tiles
from deit_fast.data.load.gpu_images import DeviceImages
from deit_fast.kernels.cuda import driver, tables
from deit_fast.kernels.gather import Totals
from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel, needs_compiler
from tests.kernels.cuda.stand_in import Launch, stand_in

pytestmark = pytest.mark.skipif(driver.SIMULATED, reason="the simulator has no driver")
CPU = torch.device("cpu")


class _Inner(NamedTuple):
    numbers: Any
    share: float


class _Outer(NamedTuple):
    inner: _Inner
    number: int
    is_on: bool


def test_each_number_comes_in_eight_bytes_and_an_array_as_its_description(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = stand_in(monkeypatch)
    array, halves = torch.zeros(3, 5, dtype=torch.int16), torch.zeros(4, dtype=torch.bfloat16)
    outer = _Outer(_Inner(driver.array(halves), 0.25), -3, True)
    numbers = np.int32(-2), np.uint32(2**32 - 1), np.int64(-(2**40)), np.uint64(2**64 - 1), np.float32(0.1), np.float64(0.1)
    once = driver.packed(outer)
    assert driver.packed(once) is once
    for given in (once, driver.packed(outer)):
        driver.launch("kernel", 10, 64, driver.array(array), *numbers, given)
    driver.launch("kernel", 0, 64, driver.array(array))
    first, second = launches
    assert first == second
    assert (first.kernel, first.grid, first.stream) == ("kernel", (10, 64), 77)
    assert str(first.types[:-1]) == (
        "(Array(int16, 2, 'C', False, aligned=True), int32, uint32, int64, uint64, float32, float64)"
    )
    inner = "_Inner(array(uint16, 1d, C), float64)"
    assert str(first.types[-1]) == f"_Outer({inner}, int64, bool)"
    of_array = [0, 0, 15, 2, array.data_ptr(), 3, 5, 10, 2]
    of_halves = [0, 0, 4, 2, halves.data_ptr(), 4, 2]
    formats = "q" * len(of_array) + "iIqQfd" + "q" * len(of_halves) + "dq?"
    words = [struct.unpack_from(f"={kind}", word)[0] for kind, word in zip(formats, first.words, strict=True)]
    assert words == [*of_array, *numbers, *of_halves, 0.25, -3, True]


def _parameters(argument: types.Type) -> list[str]:
    """What PTX calls the parameters of an argument, one for each word that is packed for it."""
    if isinstance(argument, types.Array):
        return ["u64"] * (5 + 2 * argument.ndim)
    if isinstance(argument, types.BaseTuple):
        return [kind for member in argument.types for kind in _parameters(member)]
    if isinstance(argument, types.Boolean):
        return ["u8"]
    return [f"{'f' if isinstance(argument, types.Float) else 'u'}{argument.bitwidth}"]


def _launches_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """All kernels of the data path, with the arguments that it gives them."""
    launches = stand_in(monkeypatch)
    totals = Totals(jobs=2, jpegs=2, tiles=3, blocks=30, encoded=400, raw=0, first_pixel=0, pixels=3 * 500)
    kinds = torch.uint8, torch.int64, torch.int16, torch.uint8, torch.uint8, torch.int32
    memory = DeviceMemory(0, *(torch.empty(0, dtype=kind) for kind in kinds)).at_least(4, totals)
    decode_tiles(memory, totals)
    augment = AugmentConfig(color_jitter=0.3)
    for side, dtype in ((12, "bfloat16"), (13, "float32")):
        making = DeviceImages(augment, 3, dtype, "bicubic", CPU)
        rows = np.zeros((2, tables.IMAGE_LENGTH), np.int64), np.zeros((5, tables.CROP_LENGTH), np.int64)
        making.begin(
            np.arange(5, dtype=np.uint64), side, Decoded(memory.pixels, *rows, np.zeros(5, bool), lambda: np.zeros(5, bool))
        )
        making.finish(torch.empty(5, side, side, 3, dtype=getattr(torch, dtype)))
    return launches


@needs_compiler
@pytest.mark.slow
def test_words_are_what_the_parameters_of_the_machine_code_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = _launches_of_a_batch(monkeypatch)
    of_views = ["resample_tiles", "draw_views", "apply_steps", "finish_strips"]
    names = [launch.kernel.py_func.__name__.lstrip("_") for launch in launches]
    assert names == ["decode_tiles", "transform", "show", *of_views, *of_views]
    for launch in {(launch.kernel, launch.types): launch for launch in launches}.values():
        head = compile_kernel(launch.kernel, launch.types, CAPABILITIES[1]).ptx.split(".entry")[1].split("\n)")[0]
        parameters = re.findall(r"\.param \.(\w+) \w*_param_\d+", head)
        assert parameters == [kind for argument in launch.types for kind in _parameters(argument)]
        assert len(parameters) == len(launch.words)
