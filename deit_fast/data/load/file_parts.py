"""What makes views of image files, for `compile_ahead`: the compiled functions, and a trial that calls all of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from deit_fast.kernels import centre_view, erase, finish, mix, resample
from deit_fast.kernels.jpeg import decode_image, decode_pair
from deit_fast.kernels.round import FLOAT32

OF_FILES = (
    centre_view.window_of, decode_image.begin_image, decode_image.finish_image, decode_pair.finish_either, centre_view.show,
    finish.VIEW.function, finish.finish_views_by,
)  # fmt: skip


def try_out_files(side: int) -> None:
    """Makes and finishes views (side, side, 3) of two JPEGs as `predict` does."""
    file = io.BytesIO()
    Image.new("RGB", (2 * side, 2 * side), (100, 110, 120)).save(file, "JPEG")
    pair = decode_image.ImageDecoder(), decode_image.ImageDecoder()
    for decoder in pair:
        window = centre_view.window_of(2 * side, 2 * side, side, side, resample.BICUBIC)
        is_begun = decoder.begin(file.getvalue(), 2 * side, 2 * side, window)
        assert is_begun
    first, _ = decode_pair.finish_one(*pair)
    pair[1 - first].finish()
    rows, integers = resample.scratch_sizes(2 * side, 2 * side, side)
    scratch = np.empty(rows, np.uint8), np.empty(integers, np.int32)
    views = np.empty((1, side, side, 3), np.uint8)
    centre_view.show(pair[0].image(2 * side, 2 * side), side, resample.BICUBIC, *scratch, views[0])
    normal = np.zeros(3), np.ones(3)
    ids, boxes, images = np.zeros(1, np.uint64), np.zeros((1, 4), np.int64), np.empty(views.shape, np.float32)
    finish.finish_views(views, ids, np.uint64(0), mix.unmixed(1), boxes, erase.MODES["const"], *normal, FLOAT32, 1, images)
