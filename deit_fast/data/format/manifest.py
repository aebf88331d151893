"""Computes the facts in a beton's manifest from the parts of its conversion."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from deit_fast.data.format.beton import JPEG_MODE
from deit_fast.data.format.part import Part

SAMPLES_PER_BLOCK = 1024


class Totals:
    """Sums over the parts of a conversion, which must be added in order."""

    def __init__(self) -> None:
        self.num_samples = self.num_jpeg = self.num_exact = self.num_tiles = 0
        self.stored_bytes = self.largest = self.length_bytes = self.width_sum = self.height_sum = self.pixel_sum = 0
        self.smallest = 1 << 62
        self.max_pixels = 0
        self.max_width = self.max_height = 0
        self.min_width = self.min_height = 1 << 16
        self.images_per_label = np.zeros(0, np.int64)
        self.orientations = np.zeros(9, np.int64)
        self.odd: list[dict[str, Any]] = []
        self.histograms = np.zeros((3, 256), np.int64)
        self.num_histogram_images = 0
        self.block_digests: list[str] = []
        self._block = hashlib.sha256()

    @property
    def num_skipped(self) -> int:
        return sum(odd["what"] == "skipped" for odd in self.odd)

    def add(self, part: Part) -> None:
        rows = part.rows
        self.odd += [odd | {"sample": _offset(odd["sample"], self.num_samples)} for odd in part.odd]
        self.histograms += part.histograms
        self.num_histogram_images += part.num_histogram_images
        self.orientations += np.bincount(rows["orientation"], minlength=9)
        if not len(rows):
            return
        for row, digest in enumerate(rows["digest"]):
            self._block.update(digest.tobytes())
            if (self.num_samples + row + 1) % SAMPLES_PER_BLOCK == 0:
                self._end_block()
        widths, heights = rows["width"].astype(np.int64), rows["height"].astype(np.int64)
        self.num_samples += len(rows)
        self.num_jpeg += int((rows["mode"] == JPEG_MODE).sum())
        self.num_exact += int(rows["is_exact"].sum())
        self.num_tiles += int(rows["num_tiles"].sum())
        self.stored_bytes += int(rows["size"].sum())
        self.smallest = min(self.smallest, int(rows["size"].min()))
        self.largest = max(self.largest, int(rows["size"].max()))
        self.length_bytes += len(part.lengths)
        self.width_sum += int(widths.sum())
        self.height_sum += int(heights.sum())
        self.pixel_sum += int((widths * heights).sum())
        self.max_pixels = max(self.max_pixels, int((widths * heights).max()))
        self.min_width, self.max_width = min(self.min_width, int(widths.min())), max(self.max_width, int(widths.max()))
        self.min_height, self.max_height = min(self.min_height, int(heights.min())), max(self.max_height, int(heights.max()))
        counts = np.bincount(rows["label"])
        missing = max(0, len(counts) - len(self.images_per_label))
        self.images_per_label = np.pad(self.images_per_label, (0, missing))
        self.images_per_label[: len(counts)] += counts

    def _end_block(self) -> None:
        self.block_digests.append(self._block.hexdigest())
        self._block = hashlib.sha256()

    def facts(self, num_classes: int) -> dict[str, Any]:
        """The manifest's facts about the images."""
        blocks = self.block_digests + ([self._block.hexdigest()] if self.num_samples % SAMPLES_PER_BLOCK else [])
        count = self.num_samples
        return {
            "images_per_class": np.pad(self.images_per_label, (0, num_classes - len(self.images_per_label))).tolist(),
            "num_samples": count,
            "num_jpeg": self.num_jpeg,
            "num_raw": count - self.num_jpeg,
            "num_exact": self.num_exact,
            "num_tiles": self.num_tiles,
            "stored_bytes": {
                "total": self.stored_bytes, "mean": self.stored_bytes / count, "min": self.smallest, "max": self.largest
            },
            "width": {"mean": self.width_sum / count, "min": self.min_width, "max": self.max_width},
            "height": {"mean": self.height_sum / count, "min": self.min_height, "max": self.max_height},
            "mean_pixels": self.pixel_sum / count,
            "max_pixels": self.max_pixels,
            "pixel_values": self._pixel_values(),
            "exif_orientations": {str(value): int(n) for value, n in enumerate(self.orientations) if n and value > 1},
            "num_odd": {what: sum(odd["what"] == what for odd in self.odd) for what in ("converted", "repaired", "skipped")},
            "odd": self.odd,
            "digests": {"algorithm": "sha256", "samples_per_block": SAMPLES_PER_BLOCK, "blocks": blocks},
        }  # fmt: skip

    def _pixel_values(self) -> dict[str, Any]:
        """Mean and standard deviation of each channel, in units of 255 grey levels, over the images with histograms."""
        levels = np.arange(256) / 255
        counts = self.histograms.sum(axis=1)
        means = (self.histograms @ levels) / np.maximum(counts, 1)
        squares = (self.histograms @ levels**2) / np.maximum(counts, 1)
        return {
            "num_images": self.num_histogram_images,
            "mean": means.round(6).tolist(),
            "std": np.sqrt(np.maximum(squares - means**2, 0)).round(6).tolist(),
        }


def _offset(sample: int | None, first: int) -> int | None:
    return None if sample is None else first + sample
