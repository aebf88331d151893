"""Betons of damaged JPEGs: bytes flipped, images cut or lengthened, headers exchanged, tile lengths of others."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.data.convert.transcode import Transcoded, Transcoder
from deit_fast.data.format import layout


def sound_images() -> list[Transcoded]:
    """JPEGs with tiles, of several sizes, samplings and tables."""
    images = []
    for number, (height, width, subsampling) in enumerate(
        [(40, 150, 0), (64, 260, 2), (96, 130, 1), (33, 200, 2), (64, 64, 0), (120, 160, 2)]
    ):
        noise = np.random.default_rng(number).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=60 + 6 * number, subsampling=subsampling, optimize=number % 2 == 1)
        images.append(Transcoder(optimize=False).transcode(file.getvalue()))
    return images


def mutate(generator: np.random.Generator, image: Transcoded, other: Transcoded) -> bytes:
    """The bytes of a JPEG, damaged in one of several ways."""
    encoded = np.frombuffer(image.encoded, np.uint8).copy()
    header_bytes = image.tiling.header_bytes
    kind = generator.integers(0, 7)
    if kind == 0:  # bytes anywhere
        places = generator.integers(0, len(encoded), generator.integers(1, 20))
        encoded[places] = generator.integers(0, 256, len(places))
    elif kind == 1:  # bits in the header
        places = generator.integers(2, header_bytes, generator.integers(1, 4))
        encoded[places] ^= (1 << generator.integers(0, 8, len(places))).astype(np.uint8)
    elif kind == 2:  # a stretch of zeros or of markers
        start = generator.integers(0, len(encoded))
        encoded[start : start + generator.integers(1, 200)] = generator.choice([0, 0xFF])
    elif kind == 3:
        return encoded[: generator.integers(1, len(encoded))].tobytes()
    elif kind == 4:
        return encoded.tobytes() + generator.integers(0, 256, generator.integers(1, 300), dtype=np.uint8).tobytes()
    elif kind == 5:
        return other.encoded[: other.tiling.header_bytes] + encoded[header_bytes:].tobytes()
    else:  # bytes taken out in the middle
        start, length = generator.integers(0, len(encoded)), generator.integers(1, 50)
        return np.delete(encoded, slice(start, start + length)).tobytes()
    return encoded.tobytes()


def mutated_images(num_images: int, seed: int = 0) -> tuple[list[bytes], list[Transcoded]]:
    """Damaged JPEGs, and for each the image whose size and tiles the beton states."""
    generator = np.random.default_rng(seed)
    images = sound_images()
    contents, stated = [], []
    for _ in range(num_images):
        image, other = (images[number] for number in generator.integers(0, len(images), 2))
        contents.append(mutate(generator, image, other))
        # the tile lengths of another image now and then, where both have as many
        fits = len(other.tiling.lengths) == len(image.tiling.lengths)
        stated.append(other if fits and generator.random() < 0.1 else image)
    return contents, stated


def sample_rows(contents: list[bytes], stated: list[Transcoded]) -> tuple[NDArray[np.void], bytes]:
    """Rows (n,) of layout.SAMPLE_TYPE, without offsets, and the lengths of all tiles."""
    rows = np.zeros(len(contents), layout.SAMPLE_TYPE)
    lengths = b""
    for row, content, image in zip(rows, contents, stated, strict=True):
        own, row["length_bytes"] = layout.tile_lengths(image.tiling)
        lengths += own
        row["height"], row["width"], row["size"] = image.height, image.width, len(content)
        row["num_tiles"], row["interval"] = len(image.tiling.lengths), image.tiling.interval
        row["header_bytes"] = image.tiling.header_bytes
        row["mcu_width"], row["mcu_height"] = image.tiling.mcu_width, image.tiling.mcu_height
    return rows, lengths


def write_images(path: Path, contents: list[bytes], stated: list[Transcoded]) -> None:
    """A beton of these JPEGs, in one class, that says of each what is stated."""
    rows, lengths = sample_rows(contents, stated)
    start = layout.data_start(len(rows))
    rows["offset"] = start + np.cumsum(rows["size"]) - rows["size"]
    data_end = start + int(rows["size"].sum())
    index_start = layout.aligned(data_end, layout.ALIGNMENT)
    lengths_start = index_start + len(rows) * layout.INDEX_TYPE.itemsize
    lengths_end = lengths_start + len(lengths)
    metadata, index, table = layout.tables(rows, 0, 0)
    with path.open("wb") as file:
        file.write(layout.header(len(rows), layout.PAGE_BYTES, lengths_end + layout.TRAILER_TYPE.itemsize))
        file.write(metadata)
        for content, row in zip(contents, rows, strict=True):
            file.seek(int(row["offset"]))
            file.write(content)
        file.seek(index_start)
        file.write(index + lengths)
        file.write(layout.trailer(len(rows), data_end, index_start, lengths_start, lengths_end))
        file.write(table)
