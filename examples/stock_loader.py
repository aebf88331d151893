"""Use our operations in a stock FFCV loader, on the digits that `deit-fast demo` leaves in runs/demo/digits.

A stock loader hands operations sample numbers alone: every epoch shows the same views. Another seed gives others.
"""

from __future__ import annotations

from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor

from deit_fast import AugmentConfig, AugmentViews, DecodeTrainViews, Finish, Label

BETON, RESOLUTION, SEED = "runs/demo/digits/train.beton", 32, 0

augment = AugmentConfig(auto_augment="rand-m5-n1-mstd0.5-inc1", erase=0.1, mixup=None, cutmix=None)
images = [
    DecodeTrainViews(BETON, RESOLUTION, SEED, augment),  # crop, decode, resample and flip: uint8 (32, 32, 3)
    AugmentViews(augment, SEED),  # RandAugment
    Finish(augment, SEED),  # normalise and erase: float32
    ToTensor(),
]
labels = [Label(), ToTensor()]
loader = Loader(
    BETON,
    batch_size=64,
    num_workers=1,
    order=OrderOption.RANDOM,
    seed=SEED,
    drop_last=False,
    pipelines={"image": images, "label": labels},
)

num_images, total = 0, 0.0
for views, targets in loader:  # (B, 32, 32, 3) float32, (B, 1) int64
    assert len(views) == len(targets)
    num_images += len(views)
    total += views.double().sum().item()
print(f"{num_images} images, mean {total / (num_images * RESOLUTION * RESOLUTION * 3):.3f}")
