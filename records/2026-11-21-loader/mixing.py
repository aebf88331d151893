"""Takes nothing, gives how well orders of an epoch mix the classes of a beton sorted by class, as a table and as JSON.

    python mixing.py > mixing.md          (writes mixing.json beside itself; a quarter of a minute, no beton needed)

1,281,167 images of 110 kB, 1000 classes, one class after the other: ImageNet's training set as an image folder lists it.
"""

import json
import time
from pathlib import Path

import numpy as np
from ffcv.traversal_order.quasi_random import generate_order_inner
from numpy.typing import NDArray

from deit_fast.augment import rng
from deit_fast.data.page_order import Chunks, cut_into_chunks, mixing_statistics, sample_stream

NUM_SAMPLES, NUM_CLASSES, IMAGE_BYTES = 1_281_167, 1000, 110_000
BATCH_SIZES = (341, 1024)  # different images in a global batch of 1024 views, with three views of each and with one
WINDOWS = {"0.25 GB": 1 << 28, "1 GB": 1 << 30, "4 GB": 4 << 30, "16 GB": 16 << 30}
CHUNKS = {"0.25 MB": 1 << 18, "1 MB": 1 << 20, "8 MB": 8 << 20}


def quasi_random(chunks: Chunks, num_chunks_ahead: int) -> NDArray[np.int64]:
    """FFCV's QUASI_RANDOM on one rank, with these chunks as its pages."""
    counts = np.diff(chunks.first_samples)
    pages = np.zeros((len(chunks), int(counts.max())), np.int64)
    for page, first in enumerate(chunks.first_samples[:-1]):
        pages[page, : counts[page]] = chunks.samples[first : first + counts[page]]
    stream = np.zeros(len(chunks.samples), np.int64)
    generate_order_inner(0, pages, counts, stream, num_chunks_ahead)
    return stream


def spread(chunks: Chunks, stream: NDArray[np.int64], batch_size: int) -> tuple[float, float]:
    """Batches from a chunk's first image to its last, mean; share of images with another of their chunk in their batch."""
    chunk = chunks.chunk_of_samples(NUM_SAMPLES)[stream]
    first, last = np.zeros((2, len(chunks)), np.int64)
    last[chunk] = np.arange(len(stream))
    first[chunk[::-1]] = np.arange(len(stream))[::-1]
    batch = np.arange(len(stream)) // batch_size
    _, which, counts = np.unique(batch * len(chunks) + chunk, return_inverse=True, return_counts=True)
    return float((last - first).mean() / batch_size), float((counts[which] > 1).mean())


def main() -> None:
    sizes = np.full(NUM_SAMPLES, IMAGE_BYTES, np.uint64)
    offsets = np.cumsum(sizes) - sizes
    labels = np.arange(NUM_SAMPLES) * NUM_CLASSES // NUM_SAMPLES
    cuts = {name: cut_into_chunks(offsets, sizes, np.arange(NUM_SAMPLES), chunk_bytes) for name, chunk_bytes in CHUNKS.items()}
    start = time.perf_counter()
    streams = [("all shuffled", "", "", rng.permutation(0, 0, NUM_SAMPLES))]
    seconds = {"all shuffled": time.perf_counter() - start}
    for window, window_bytes in WINDOWS.items():
        for chunk, chunks in cuts.items():
            start = time.perf_counter()
            stream = sample_stream(chunks, seed=0, epoch=0, window_bytes=window_bytes)
            seconds[f"pages, {window}, {chunk}"] = time.perf_counter() - start
            streams.append(("pages", window, chunk, stream))
    for window, window_bytes in WINDOWS.items():
        streams.append(("QUASI_RANDOM", window, "8 MB", quasi_random(cuts["8 MB"], window_bytes >> 23)))
    streams.append(("QUASI_RANDOM's rule", "4 GB", "1 MB", quasi_random(cuts["1 MB"], 4096)))
    rows = []
    for batch_size in BATCH_SIZES:
        print(f"\nBatches of {batch_size} different images:\n")
        print(
            "| order | window | chunk | classes in a batch | chi-square, mean | worst batch | correlation with the next batch "
            "| largest with the 16 next | batches that a chunk spans | with a neighbour in the batch |\n|" + "---|" * 10
        )
        for order, window, chunk, stream in streams:
            row = mixing_statistics(labels, stream, batch_size)
            row["batches_of_a_chunk"], row["share_with_neighbour"] = spread(cuts[chunk or "1 MB"], stream, batch_size)
            values = " | ".join(f"{value:.3f}" if value < 10 else f"{value:.1f}" for value in row.values())
            print(f"| {order} | {window} | {chunk} | {values} |")
            rows.append({"order": order, "window": window, "chunk": chunk, "batch_size": batch_size, **row})
    print("\nSeconds to make an epoch's order:", ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()))
    result = {"rows": rows, "seconds": seconds}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
