"""Takes what is drawn for the views of a batch, gives the tables of numbers in which kernels find it: which column holds what.

All are int64, one row for each view or image. Few tables, since each array that a kernel takes lengthens its launch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.kernels import crop
from deit_fast.kernels.mix import Mix

# Images, from which views are resampled. A window of the image is in memory: all of it, or what a view needs of it.
OFFSET = 0  # of the window's first byte
ROWS = 1  # of the window
COLUMNS = 2
FIRST_ROW = 3  # of the window, in the image
FIRST_COLUMN = 4
IS_PLANAR = 5  # 1: (3, rows, columns), 0: (rows, columns, 3)
HEIGHT = 6  # of the whole image
WIDTH = 7
IMAGE_LENGTH = 8

# Crops: a plan of `kernels.crop`, and the image that it is of. Copies of a sample may show one image.
FLIPPED = 8
IMAGE = crop.PLAN_LENGTH
CROP_LENGTH = IMAGE + 1
MAX_TAPS = 1024  # pixels of a row or column that an output may see: the resample kernel has memory for so many weights

# What becomes of a view after the policy
VIEW_ID = 0  # bits of a uint64
PARTNER = 1
KIND = 2  # PLAIN, MIXUP or CUTMIX
LAM = 3  # bits of a float64
CUT = 4  # y0, y1, x0, x1 that CutMix takes from the partner
ERASED = 8  # y0, y1, x0, x1
SEED = 12  # bits of a uint64
FINISH_LENGTH = 13


def image_rows(offsets: Any, sizes: np.ndarray, *, is_planar: bool) -> np.ndarray:
    """(N, IMAGE_LENGTH) int64 for images that are in memory as a whole. offsets (N,); sizes (N, 2): height, width."""
    rows = np.zeros((len(sizes), IMAGE_LENGTH), np.int64)
    rows[:, OFFSET] = offsets
    rows[:, ROWS : COLUMNS + 1] = rows[:, HEIGHT : WIDTH + 1] = sizes
    rows[:, IS_PLANAR] = is_planar
    return rows


def crop_rows(plans: np.ndarray, image_of: Any) -> np.ndarray:
    """(B, CROP_LENGTH) int64 from plans (B, PLAN_LENGTH) that were made on the CPU, and the image of each view (B,)."""
    rows = np.empty((len(plans), CROP_LENGTH), np.int64)
    rows[:, :IMAGE], rows[:, IMAGE] = plans, image_of
    return rows


def finish_rows(seed: np.uint64, ids: np.ndarray, mixed: Mix, erased: np.ndarray) -> np.ndarray:
    """(B, FINISH_LENGTH) int64 from ids (B,) uint64, a mix and boxes (B, 4) of `erase.draw_boxes`, drawn on the CPU."""
    rows = np.empty((len(ids), FINISH_LENGTH), np.int64)
    rows[:, VIEW_ID], rows[:, PARTNER], rows[:, KIND] = ids.view(np.int64), mixed.partner, mixed.kind
    rows[:, LAM], rows[:, SEED] = mixed.lam.view(np.int64), np.uint64(seed).view(np.int64)
    rows[:, CUT : CUT + 4], rows[:, ERASED : ERASED + 4] = mixed.box, erased
    return rows
