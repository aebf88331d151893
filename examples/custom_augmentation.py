"""Add an augmentation of your own, GridMask, to the batches of our loader, on the digits in runs/demo/digits.

It is a compiled loop over a batch, in place. What it draws depends on seed, epoch, sample and view alone, as all else does, so
a view looks the same in batches of any size, on any number of ranks. GridMask: Chen et al., arXiv:2001.04086.
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from deit_fast import AugmentConfig, Batch, DataConfig, Loader, train_loader


@numba.njit(nogil=True, cache=True)
def mix_bits(number):  # type: ignore[no-untyped-def]
    """64 random bits of a number: splitmix64, Steele et al., 2014."""
    number = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def mask_grids(images, samples, views, key, period):  # type: ignore[no-untyped-def]
    """images (B, H, W, 3): every pixel in the even rows and columns of a grid becomes 0, the mean colour.

    samples, views: (B,) int64. key: of seed and epoch. period: pixels from one masked square to the next, half of them masked.
    """
    for i in range(len(images)):
        bits = mix_bits(mix_bits(key ^ np.uint64(samples[i])) ^ np.uint64(views[i]))
        top, left = bits % np.uint64(period), (bits >> np.uint64(32)) % np.uint64(period)
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                if (y + top) % period < period // 2 and (x + left) % period < period // 2:
                    images[i, y, x] = 0


def with_grid_masks(loader: Loader, *, seed: int, epoch: int, period: int) -> Iterator[Batch]:
    """The batches of an epoch, masked. Their images must be on the CPU, and float32."""
    key = mix_bits(mix_bits(seed) ^ np.uint64(epoch))
    loader.set_epoch(epoch)
    for batch in loader:
        images_BHWC = batch.images.permute(0, 2, 3, 1).numpy()  # the same memory: images are channels-last
        mask_grids(images_BHWC, batch.samples.numpy(), batch.views.numpy(), key, period)
        yield batch


def main() -> None:
    data = DataConfig(train="runs/demo/digits/train.beton", batch_size=64, resolution=32)
    loader = train_loader(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    for epoch in range(2):
        shares = [
            (batch.images == 0).double().mean().item() for batch in with_grid_masks(loader, seed=0, epoch=epoch, period=8)
        ]
        print(f"epoch {epoch}: {len(shares)} batches, {100 * np.mean(shares):.1f} % of the pixels masked")


if __name__ == "__main__":
    main()
