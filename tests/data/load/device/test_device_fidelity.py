"""The rows of the fidelity table that want a GPU: in the simulator, where the CPU decodes, they say that nothing differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("numba_cuda")

from deit_fast.benchmarks.fidelity import device_jpegs
from deit_fast.benchmarks.fidelity.bench import measure
from deit_fast.benchmarks.fidelity.material import Row, random_material
from deit_fast.benchmarks.rivals.nvjpeg import DecodeJpegs, torchvision_decoder
from deit_fast.data.load import gpu_decode
from deit_fast.data.load.gpu_decode import DeviceMemory
from deit_fast.kernels.cuda import resample
from deit_fast.kernels.gather import Totals
from tests.kernels.cuda.devices import on_devices

COUNT = 3
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")


@pytest.mark.parametrize("row", device_jpegs.ROWS, ids=lambda row: row.name)
@on_devices
def test_decoded_images_are_compared_with_pillows(
    row: Row, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cpu":
        monkeypatch.setattr(resample, "THREADS", 32)
        monkeypatch.setattr(device_jpegs, "_RESOLUTION", 12)
    found = measure(row, random_material(tmp_path, COUNT, 0, 1))
    assert 0 < found["num_views"] <= COUNT
    assert found["max"] == 0 or (device == "cuda" and "nvJPEG" in row.name)
    assert found["mean"] < 10


@pytest.mark.simulator
def test_other_pixels_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brighter(device: torch.device) -> DecodeJpegs:
        decode_jpegs = torchvision_decoder(device)
        return lambda sources: [image.clip(0, 254) + 1 for image in decode_jpegs(sources)]

    decode_tiles = gpu_decode.decode_tiles

    def brighter_tiles(memory: DeviceMemory, totals: Totals) -> None:
        decode_tiles(memory, totals)
        memory.pixels.copy_(memory.pixels.clip(0, 254) + 1)

    monkeypatch.setattr(device_jpegs, "torchvision_decoder", brighter)
    monkeypatch.setattr(gpu_decode, "decode_tiles", brighter_tiles)
    material = random_material(tmp_path, COUNT, 0, 1)
    for row in (device_jpegs.ROWS[0], device_jpegs.ROWS[2]):
        assert measure(row, material)["max"] == 1
