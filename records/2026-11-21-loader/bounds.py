"""Takes a beton of photographs, gives what each stage of the data path has to do for a view: the work behind its bound.

    python records/2026-11-21-loader/bounds.py BETON [--out bounds.json]

Symbols are Huffman codes as the JPEGs have them, end-of-block codes included; multiply-adds are taps of the resampling filter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from deit_fast.augment import crop, resample, rng
from deit_fast.data import tiles
from deit_fast.data.beton import open_beton
from deit_fast.data.index import read_index
from deit_fast.data.jpeg import Transcoder

SIDE, SCALE, RATIO, VIEWS = 224, (0.08, 1.0), (3 / 4, 4 / 3), 3


def num_symbols(transcoder: Transcoder, encoded: bytes) -> int:
    """Huffman symbols of a JPEG, as a transcoder that makes tables for each image counts them."""
    transcoder.transcode(encoded)
    return int(transcoder._arrays["frequencies"].sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("beton")
    parser.add_argument("--out")
    options = parser.parse_args()
    beton = open_beton(options.beton)
    index = read_index(beton)
    assert index is not None
    content = np.memmap(beton.path, np.uint8, "r")
    transcoder = Transcoder(optimize=True)
    columns: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            columns.setdefault(name, []).append(value)

    for sample in range(0, beton.num_samples, 4):
        start, size = int(beton.offsets[sample]), int(beton.sizes[sample])
        height, width = int(beton.heights[sample]), int(beton.widths[sample])
        note(stored_bytes=size, symbols=num_symbols(transcoder, content[start : start + size].tobytes()))
        row = index.rows[sample]
        facts = (int(row[name]) for name in ("interval", "num_tiles", "mcu_width", "mcu_height"))
        grid = tiles.grid_of(*facts, width, height)
        lengths = index.tile_lengths(sample)
        columns_of_tiles = len(lengths) // -(-height // grid[2])
        together = None
        for view in range(VIEWS):
            view_id = rng.pack_view_ids(0, np.array([sample]), np.array([view]))[0]
            plan = crop.random_resized_crop(np.uint64(0), view_id, height, width, SCALE, RATIO, SIDE)
            vertical, horizontal = crop.axes(plan, 0, 0, 1)
            rows = [np.subtract(*resample._taps(resample.BICUBIC, vertical, i)[1::-1]) for i in range(SIDE)]
            taps = [np.subtract(*resample._taps(resample.BICUBIC, horizontal, i)[1::-1]) for i in range(SIDE)]
            y0, y1 = resample.reach(resample.BICUBIC, vertical, SIDE)
            x0, x1 = resample.reach(resample.BICUBIC, horizontal, SIDE)
            block = tiles.tiles_under(grid, y0, y1, x0, x1)
            together = block if together is None else tiles.union(together, block)
            note(
                horizontal_multiply_adds=3.0 * sum(taps) * (y1 - y0),
                vertical_multiply_adds=3.0 * sum(rows) * SIDE,
                tile_bytes_of_a_view=_bytes_of(block, lengths, columns_of_tiles),
            )
        note(tile_bytes_of_three_views=_bytes_of(together, lengths, columns_of_tiles))
    means = {name: float(np.mean(values)) for name, values in columns.items()}
    pixels = SIDE * SIDE * 3
    means |= {"view_bytes": pixels, "float32_bytes": 4 * pixels, "erased_normals": 0.25 * pixels * 0.17}
    for name, value in means.items():
        print(f"{name:28} {value:14,.0f}")
    if options.out:
        Path(options.out).write_text(json.dumps(means, indent=1) + "\n")


def _bytes_of(block: tuple[int, ...], lengths: np.ndarray, num_columns: int) -> float:
    return float(lengths.reshape(-1, num_columns)[block[0] : block[1], block[2] : block[3]].sum())


if __name__ == "__main__":
    main()
