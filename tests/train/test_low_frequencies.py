"""The low-frequency crop against NumPy's FFT, written as EfficientTrain has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deit_fast.train.low_frequencies import low_frequencies

SIDES = [(224, 96), (224, 160), (224, 192), (32, 32), (32, 31), (31, 16), (31, 15), (9, 1), (8, 2)]


def _by_fft(images: np.ndarray, side: int) -> np.ndarray:
    """Transform, centred block, inverse transform, real part; the means stay."""
    n = images.shape[-1]
    spectrum = np.fft.fftshift(np.fft.fft2(images.astype(np.float64)), axes=(-2, -1))
    first = n // 2 - side // 2
    block = spectrum[..., first : first + side, first : first + side]
    return np.fft.ifft2(np.fft.ifftshift(block, axes=(-2, -1))).real * (side / n) ** 2


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n", "side"), SIDES)
def test_it_is_numpys_fft_cropped(n: int, side: int) -> None:
    images = _noise(2, 3, n, n)
    found = low_frequencies(images, side)
    assert found.shape == (2, 3, side, side)
    np.testing.assert_allclose(found.numpy(), _by_fft(images.numpy(), side), rtol=0, atol=1e-5)


def test_a_smooth_image_keeps_its_values_and_its_mean() -> None:
    """A wave of three periods has, on half as many points, the values of every second one."""
    wave = 2.0 + torch.cos(2 * torch.pi * 3 * torch.arange(64) / 64)
    images = wave[None, None, None].expand(1, 3, 64, 64).contiguous()
    torch.testing.assert_close(low_frequencies(images, 32), images[..., ::2, ::2].contiguous(), rtol=0, atol=1e-5)


def test_cropping_commutes_with_mixup() -> None:
    images, others = _noise(2, 3, 48, 48), _noise(2, 3, 48, 48).flip(0)
    mixed = low_frequencies(0.3 * images + 0.7 * others, 20)
    torch.testing.assert_close(mixed, 0.3 * low_frequencies(images, 20) + 0.7 * low_frequencies(others, 20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_computes_in_float32_and_keeps_dtype_and_memory_format(dtype: torch.dtype) -> None:
    images = _noise(2, 3, 32, 32).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = low_frequencies(images, 16)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    wanted = torch.from_numpy(_by_fft(images.float().numpy(), 16)).to(dtype)
    torch.testing.assert_close(found, wanted, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_a_device_gets_the_matrix_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host waits for what is queued on a GPU when it sends ordinary memory there."""
    sent: list[np.ndarray] = []
    from_numpy = torch.from_numpy

    def noted(values: np.ndarray) -> torch.Tensor:
        sent.append(values)
        return from_numpy(values)

    monkeypatch.setattr(torch, "from_numpy", noted)
    for _ in range(3):
        low_frequencies(_noise(1, 3, 40, 40), 28)
    assert [values.shape for values in sent] == [(29, 40)]


@pytest.mark.gpu
def test_the_gpu_crops_as_the_cpu_also_under_autocast() -> None:
    images = _noise(4, 3, 224, 224)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = low_frequencies(images.cuda().contiguous(memory_format=torch.channels_last), 96)
    np.testing.assert_allclose(found.cpu().numpy(), _by_fft(images.numpy(), 96), rtol=0, atol=1e-5)
