"""Share of crops of 8 to 100 % of an image that have fewer pixels than a view of 96, by the image's shorter side and shape.

python records/2026-11-30-scaled-decoding/enlarged.py
"""

import numpy as np

from deit_fast.kernels import crop, rng

VIEWS, SIDE = 20_000, 96
how = crop.cropping(crop.RANDOM, flip=0.5, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
ids = rng.pack_view_ids(0, np.arange(VIEWS), np.zeros(VIEWS, np.int64))
for shorter in (192, 256):
    for shape, longer in (("4:3", shorter * 4 // 3), ("square", shorter)):
        plans = np.empty((VIEWS, crop.PLAN_LENGTH), np.int64)
        crop.plan_views(np.uint64(0), ids, how, np.full(VIEWS, shorter), np.full(VIEWS, longer), SIDE, plans)
        share = float(np.mean(plans[:, 2] * plans[:, 3] < SIDE * SIDE))
        print(f"shorter side {shorter}, {shape:6}: {100 * share:.1f} %")
