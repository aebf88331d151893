"""Measures photographs per second of decoding on the GPU, by our kernels and by nvJPEG, and on the CPU; checks the pixels."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.benchmarks.gpu.batch import Source, send
from deit_fast.benchmarks.gpu.ceilings import median_seconds
from deit_fast.benchmarks.gpu.kernels import DECODE, decode_works
from deit_fast.benchmarks.gpu.parts import error_of
from deit_fast.benchmarks.interleave import interleaved, summary, wait_for
from deit_fast.benchmarks.rivals.nvjpeg import NvjpegDecoder, check_decoder, torchvision_decoder
from deit_fast.config import RunConfig, UserError
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.gpu_decode import Decoded, RaggedDecoder
from deit_fast.data.load.views import Work
from deit_fast.kernels import rng
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.jpeg import turbojpeg

SIZES = (85, 256, 1024)  # photographs in a batch
RATIOS = {"kernels": ("nvjpeg", "nvjpeg of crops", "cpu"), "kernels, whole": ("nvjpeg, whole",)}
_CHECKED = 1024
_CHECKED_BATCH = 64

Planned = Callable[[NDArray[np.uint64]], Work]


def decode_rates(config: RunConfig, device: torch.device, size: int, *, num_photographs: int = 8192) -> dict[str, Any]:
    """Photographs per second of data.train, in batches of `size` photographs: rounds, medians and `ratios`.

    With the crops of training, augment.repeats views of each photograph:
    - `kernels`: the tiles under the crops decoded on the device by our kernels, not resampled
    - `nvjpeg of crops`: nvJPEG on JPEGs cut to these tiles, which a beton without an index does not have
    - `nvjpeg`: nvJPEG on whole JPEGs
    - `cpu`: decoded and resampled by the CPU's threads
    Whole photographs: `kernels, whole` and `nvjpeg, whole`. All begin with the beton's bytes, in the steady state. `alone`: by
    the device's time of our kernels. Also how many JPEGs were `refused`, what the machine `lacks` for nvJPEG, and what has
    `failed`. Raises UserError if there is no beton.
    """
    source = Source(config, size * config.augment.repeats)
    num_batches = max(1, num_photographs // size)
    crops, whole = source.ids(size * config.augment.repeats, num_batches), source.ids(size, num_batches, 1)
    lacks = ""
    try:
        check_decoder(device)
    except UserError as error:
        lacks = str(error)
    decoders = _decoders(source, device, has_nvjpeg=not lacks)
    few = -(-num_batches // 4)  # batches for others than our kernels: they are slower

    def on_cpu() -> None:
        for ids in crops[:few]:
            source.decode_on_cpu(source.planned(ids))

    works: dict[str, Callable[[], None]] = {}
    for name, decoder in decoders.items():
        planned, batches = (source.planned_whole, whole) if name.endswith("whole") else (source.planned, crops)
        some = batches if isinstance(decoder, RaggedDecoder) else batches[:few]
        works[name] = functools.partial(_decode_all, decoder, planned, some, source.side, device)
    works["cpu"] = on_cpu
    failed = {name: line for name, work in works.items() if (line := error_of(work))}
    counts = {name: size * (num_batches if name.startswith("kernels") else few) for name in works}
    measures = {name: _rate(one, counts[name]) for name, one in works.items() if name not in failed}
    rates = interleaved(measures, config.bench.rounds)
    alone = {}
    if device.type == "cuda" and "kernels" in rates:  # a simulated kernel's time says nothing
        for name, batch in (("kernels", source.planned(crops[0])), ("kernels, whole", source.planned_whole(whole[0]))):
            alone[name] = size / _kernel_seconds(source, batch, device)
    return {
        "size": size,
        "photographs_per_second": {name: summary(values) for name, values in rates.items()},
        "rounds": rates,
        "ratios": {
            f"{ours} / {other}": statistics.median(a / b for a, b in zip(rates[ours], rates[other], strict=True))
            for ours, others in RATIOS.items()
            for other in others
            if ours in rates and other in rates
        },
        "alone": alone,
        "refused": {name: decoder.num_refused for name, decoder in decoders.items()},
        "failed_decoders": failed,
        "lacks": lacks,
        "repeats": config.augment.repeats,
        "num_workers": source.num_workers,
        "bytes_per_photograph": float(source.beton.sizes.mean()),
    }


def _decode_all(
    decoder: RaggedDecoder | NvjpegDecoder,
    planned: Planned,
    batches: list[NDArray[np.uint64]],
    side: int,
    device: torch.device,
) -> None:
    judged: Callable[[], object] | None = None
    for ids in batches:
        batch = planned(ids)
        decoded = decoder.decode(batch.ids, batch.stored, batch.plans, side)
        if judged is not None:
            judged()  # of the batch before, as the loader asks
        judged = decoded.damaged if isinstance(decoded, Decoded) else None
    if judged is not None:
        judged()
    wait_for(device)


def _decoders(source: Source, device: torch.device, *, has_nvjpeg: bool) -> dict[str, RaggedDecoder | NvjpegDecoder]:
    decoders: dict[str, RaggedDecoder | NvjpegDecoder] = {
        name: _ragged(source, device) for name in ("kernels", "kernels, whole")
    }
    if not has_nvjpeg:
        return decoders
    decode_jpegs = torchvision_decoder(device)
    uncut = images_of(source.beton, has_index=False)
    of_rival = {"nvjpeg": uncut, "nvjpeg, whole": uncut}
    if source.images.has_index:
        of_rival["nvjpeg of crops"] = source.images
    for name, images in of_rival.items():
        sizes = {"batch_size": source.batch_size, "num_workers": source.num_workers}
        decoders[name] = NvjpegDecoder(decode_jpegs, images, source.kind, **sizes, is_pinned=device.type == "cuda")
    return decoders


def _ragged(source: Source, device: torch.device) -> RaggedDecoder:
    return RaggedDecoder(source.images, source.kind, num_workers=source.num_workers, device=device)


def _kernel_seconds(source: Source, work: Work, device: torch.device) -> float:
    """Of the device, from a batch's bytes there to its pixels."""
    works = decode_works(send(source, work, device))
    return median_seconds(lambda: [works[name]() for name in DECODE], device)


def _rate(work: Callable[[], None], count: int) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        work()
        return count / (time.perf_counter() - started)

    return measure


def check_pixels(config: RunConfig, device: torch.device, *, count: int = _CHECKED) -> dict[str, Any]:
    """Compares up to `count` photographs of data.train, decoded on the device, with libjpeg's; and a random crop of each,
    resampled there, with the CPU's.

    For `photographs` and `views`: how many are `equal`, `different` and were `left` to the CPU, and the `greatest` difference.
    """
    from deit_fast.kernels.cuda.driver import check_device

    check_device()
    source = Source(config, _CHECKED_BATCH)
    generator = np.random.default_rng(config.train.seed)
    samples = generator.permutation(source.beton.num_samples)[:count]
    ids = rng.pack_view_ids(0, samples, np.zeros(len(samples), np.int64))
    batches = [ids[first : first + _CHECKED_BATCH] for first in range(0, len(ids), _CHECKED_BATCH)]
    return {
        "photographs": _compared(pair for batch in batches for pair in _photographs(source, batch, device)),
        "views": _compared(pair for batch in batches for pair in _views(source, batch, device)),
    }


# What the device made, None if it left it to the CPU, and what it should be
Pair = tuple[NDArray[np.uint8] | None, NDArray[np.uint8]]


def _compared(pairs: Iterable[Pair]) -> dict[str, int]:
    found = {"equal": 0, "different": 0, "left": 0, "greatest": 0}
    for ours, wanted in pairs:
        if ours is None:
            found["left"] += 1
            continue
        difference = int(np.abs(ours.astype(np.int16) - wanted).max())
        found["greatest"] = max(found["greatest"], difference)
        found["different" if difference else "equal"] += 1
    return found


def _photographs(source: Source, ids: NDArray[np.uint64], device: torch.device) -> Iterable[Pair]:
    work, libjpeg, beton = source.planned_whole(ids), turbojpeg.JpegDecoder(), source.beton
    decoded = _ragged(source, device).decode(work.ids, work.stored, work.plans, source.side)
    pixels, is_left = decoded.pixels.cpu().numpy(), decoded.left | decoded.damaged()
    for sample, row, is_its in zip(rng.sample_of(ids).tolist(), decoded.images, ~is_left, strict=True):
        height, width = int(beton.heights[sample]), int(beton.widths[sample])
        status, wanted = libjpeg.decode(source.images.stored_bytes(sample).tobytes(), height, width)
        first = row[tables.OFFSET]
        is_its &= status == turbojpeg.OK
        yield pixels[first : first + wanted.size].reshape(wanted.shape) if is_its else None, wanted


def _views(source: Source, ids: NDArray[np.uint64], device: torch.device) -> Iterable[Pair]:
    from deit_fast.data.load.gpu_images import DeviceImages  # which imports numba-cuda

    config = source.config
    maker = DeviceImages(config.augment, config.train.seed, "float32", config.data.interpolation, device)
    work = source.planned(ids)
    decoded = _ragged(source, device).decode(work.ids, work.stored, work.plans, source.side)
    views = maker.begin(ids, source.side, decoded).cpu().numpy()
    is_left, wanted = decoded.left | decoded.damaged(), source.decode_on_cpu(work)
    yield from ((None if left else view, own) for view, own, left in zip(views, wanted, is_left, strict=True))
