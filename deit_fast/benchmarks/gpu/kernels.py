"""Times each kernel of the GPU path on a batch of photographs, beside the bytes and the work that bound it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import fill_of, policy_of
from deit_fast.benchmarks.gpu.batch import Gathered, Gatherer, Source
from deit_fast.benchmarks.gpu.bounds import INSTRUCTIONS_OF_BLOCK, INSTRUCTIONS_OF_PIXEL, Needs, bounds_of, tile_needs
from deit_fast.benchmarks.gpu.ceilings import timed
from deit_fast.benchmarks.gpu.parts import in_one_line
from deit_fast.benchmarks.gpu.symbols import count_symbols
from deit_fast.config import RunConfig
from deit_fast.kernels import crop, erase
from deit_fast.kernels.jpeg import device_tables
from deit_fast.kernels.round import PRECISIONS

NUM_VIEWS = 256
DECODE = ("zero", "decode_tiles", "transform", "show")
VIEWS = ("resample", "draw", "policy", "finish")
ROWS = {
    "policy and finish": ("policy", "finish"),
    "decode": DECODE,
    "decode and views": DECODE + VIEWS,
    "all with transfer": ("transfer", *DECODE, *VIEWS),
}
TARGET_SECONDS = 1e-3  # wanted for `decode and views`, of NUM_VIEWS

Works = dict[str, Callable[[], None]]


def kernel_times(
    config: RunConfig, device: torch.device, limits: dict[str, Any], *, num_views: int = NUM_VIEWS, repeats: int = 50
) -> dict[str, Any]:
    """Of each kernel on a batch of random crops of data.train: `seconds` on the device and `queue_seconds` of the host, medians
    of `repeats`; what it `needs`, see `bounds.Needs`, and the `bounds` that follow from limits, the device's `ceilings`; or how
    it has `failed`. Each of ROWS is several kernels in a row, with the filling of the coefficients with zeros.

    Also how much there is to decode, how many JPEGs were `left` to the CPU, and how many the device found `damaged`, None if it
    tells no more. Raises UserError where kernels cannot run.
    """
    from deit_fast.kernels.cuda.driver import check_device

    check_device()
    source = Source(config, num_views)
    (ids,) = source.ids(num_views, 1)
    gatherer = Gatherer(source.images, source.kind, num_workers=source.num_workers, is_pinned=device.type == "cuda")
    batch = gatherer.gather(source.planned(ids), source.side)
    decoding = Decoding(batch, device)
    dtype = config.data.dtype if config.data.dtype in PRECISIONS else "bfloat16"
    views = _Views(config, batch, decoding, source.side, dtype)
    works = {**decoding.works(), **views.works()}
    symbols = count_symbols(batch.encoded.numpy(), batch.jpegs, batch.tiles)
    needs = _needs(batch, symbols, source.side, dtype, views.num_steps)
    kernels: dict[str, dict[str, Any]] = {}
    for row, names in ({name: (name,) for name in works} | ROWS).items():
        own = [works[name] for name in names if name in works]
        try:
            found = timed(lambda own=own: [work() for work in own], device, repeats=repeats, warm_up=min(repeats, 3))  # type: ignore[misc]
        except Exception as error:  # costs no other kernel its figures
            kernels[row] = {"failed": in_one_line(error)}
            continue
        kernels[row] = {
            "seconds": found.seconds,
            "queue_seconds": found.queue_seconds,
            "needs": needs[row].as_dict() if row in needs else None,
            "bounds": bounds_of(needs[row], limits) if row in needs else {},
        }
    return {
        "views": num_views,
        "resolution": source.side,
        "dtype": dtype,
        **amounts(batch, symbols),
        "damaged": decoding.num_damaged(),
        "left": batch.num_left,
        "kernels": kernels,
    }


def amounts(batch: Gathered, symbols: np.ndarray) -> dict[str, int]:
    """How much there is to decode in a batch; symbols (T,): of its tiles."""
    totals = batch.totals
    return {
        "photographs": totals.jobs,
        "tiles": int(np.count_nonzero(symbols)),
        "symbols": int(symbols.sum()),
        "symbols_of_longest_tile": int(symbols.max()),
        "blocks": totals.blocks,
        "wanted_blocks": batch.num_wanted_blocks,
        "pixels": (totals.pixels - totals.first_pixel) // 3,
        "encoded_bytes": totals.encoded,
    }


def _needs(batch: Gathered, symbols: np.ndarray, side: int, dtype: str, num_steps: int) -> dict[str, Needs]:
    """What each kernel must move and compute at least."""
    from deit_fast.kernels.cuda import jpeg_bits

    totals, wanted = batch.totals, batch.num_wanted_blocks
    count, num_pixels = len(batch.ids), (batch.totals.pixels - batch.totals.first_pixel) // 3
    tables = 8 * (batch.jpegs.size + batch.tiles.size)
    view_bytes = 3 * count * side * side
    finished_bytes = view_bytes * getattr(torch, dtype).itemsize
    drawn_bytes = 8 * (batch.images.size + batch.crops.size + count * (1 + 2 * num_steps))
    return {
        "transfer": Needs(totals.encoded + tables, from_host=True),
        "zero": Needs(128 * totals.blocks),
        # bytes become bits first, which are then read; a block of coefficients is 128 bytes, one line of the cache
        "decode_tiles": tile_needs(
            3 * totals.encoded + tables + 128 * totals.blocks, batch.jpegs, batch.tiles, symbols, jpeg_bits.THREADS
        ),
        "transform": Needs(wanted * (128 + 64), instructions=wanted * INSTRUCTIONS_OF_BLOCK),
        "show": Needs(64 * wanted + 3 * num_pixels, instructions=num_pixels * INSTRUCTIONS_OF_PIXEL),
        "draw": Needs(drawn_bytes),
        "resample": Needs(3 * batch.num_crop_pixels + view_bytes),
        "policy": Needs(2 * view_bytes),  # reads and writes each view once at least
        "finish": Needs(2 * view_bytes + finished_bytes),  # what is mixed is read for both partners
    }


class Decoding:
    """A batch's memory on the device, in which its JPEGs are decoded again and again."""

    def __init__(self, batch: Gathered, device: torch.device) -> None:
        totals = batch.totals
        self.totals = totals
        is_pinned = device.type == "cuda"
        tables = [torch.from_numpy(table) for table in (batch.jpegs, batch.tiles)]
        self._sent = [batch.encoded, *(table.pin_memory() if is_pinned else table for table in tables)]
        self._there = [sent.to(device) for sent in self._sent]
        num_words = device_tables.num_bit_words(totals.encoded, totals.tiles)
        self._bits = torch.zeros(num_words, dtype=torch.int32, device=device)
        self._coefficients = torch.zeros(64 * totals.blocks, dtype=torch.int16, device=device)
        self._samples = torch.zeros(64 * totals.blocks, dtype=torch.uint8, device=device)
        self.pixels = torch.zeros(totals.pixels, dtype=torch.uint8, device=device)
        self.statuses = torch.zeros(totals.jpegs, dtype=torch.int32, device=device)

    def num_damaged(self) -> int | None:
        try:
            return int(torch.count_nonzero(self.statuses))
        except RuntimeError:  # an error of CUDA that lasts
            return None

    def works(self) -> Works:
        """A call of each step, by its name in DECODE and "transfer"."""
        from deit_fast.kernels.cuda import jpeg_bits, jpeg_pixels, jpeg_samples
        from deit_fast.kernels.cuda.driver import array

        def and_words(memory: torch.Tensor) -> tuple[Any, Any]:
            return array(memory), array(memory.view(torch.int32))

        encoded, jpegs, tiles = and_words(self._there[0]), array(self._there[1]), array(self._there[2])
        bits, coefficients = array(self._bits), array(self._coefficients)
        samples, pixels = and_words(self._samples), array(self.pixels)
        statuses, totals = array(self.statuses), self.totals
        count = totals.jpegs

        def transfer() -> None:
            for sent, there in zip(self._sent, self._there, strict=True):
                there.copy_(sent, non_blocking=True)

        def zero() -> None:
            self._coefficients.zero_()
            self.statuses.zero_()

        return {
            "transfer": transfer,
            "zero": zero,
            "decode_tiles": lambda: jpeg_bits.decode_bits(encoded, jpegs, tiles, count, bits, coefficients, statuses),
            "transform": lambda: jpeg_samples.transform(encoded[0], jpegs, count, coefficients, samples[1], statuses),
            "show": lambda: jpeg_pixels.show(jpegs, count, samples[0], pixels),
        }


@dataclass(frozen=True, eq=False)
class _Views:
    """The kernels that make a batch of decoded images."""

    config: RunConfig
    batch: Gathered
    decoding: Decoding
    side: int
    dtype: str

    @property
    def num_steps(self) -> int:
        return policy_of(self.config.augment, self.config.data.interpolation).num_steps

    def works(self) -> Works:
        """A call of each, by its name in VIEWS; a policy without steps has none."""
        from deit_fast.kernels.cuda import finish as finishing
        from deit_fast.kernels.cuda import plan, tables
        from deit_fast.kernels.cuda import policy as applying
        from deit_fast.kernels.cuda import resample as resampling
        from deit_fast.kernels.cuda.driver import array, packed
        from deit_fast.kernels.resample import FILTERS

        augment, data, device = self.config.augment, self.config.data, self.decoding.pixels.device
        count, side = len(self.batch.ids), self.side

        def there(values: np.ndarray) -> Any:
            return array(torch.from_numpy(values).to(device))

        drawn, fill = policy_of(augment, data.interpolation), fill_of(augment)
        images, crops, pixels = there(self.batch.images), there(self.batch.crops), array(self.decoding.pixels)
        ids = there(self.batch.ids.view(np.int64))
        views = torch.zeros(count, side, side, 3, dtype=torch.uint8, device=device)
        finished = torch.empty(count, side, side, 3, dtype=getattr(torch, self.dtype), device=device)
        steps, scratch = there(np.zeros((count, max(drawn.num_steps, 1), 2))), there(np.zeros(count * side * side, np.uint32))
        table = there(np.zeros((count, tables.FINISH_LENGTH), np.int64))
        levels = there(finishing.levels_of(np.array(augment.mean), np.array(augment.std)))
        policy_there = plan.policy_of(drawn, there(drawn.table if len(drawn.table) else np.zeros((1, 5))))
        drawn_by = crop.cropping(crop.GIVEN), policy_there, mixing_of(augment)
        how = *(packed(part) for part in drawn_by), float(augment.erase)
        by_word, flat, target = finishing.views_array(views), array(views.view(-1)), finishing.images_array(finished)
        shape, kind = (count, side, side), FILTERS[data.interpolation]
        mode, precision = erase.MODES[augment.erase_mode], PRECISIONS[self.dtype]
        works: Works = {
            "resample": lambda: resampling.resample(pixels, images, crops, kind, side, count, flat),
            "draw": lambda: plan.draw_views(0, ids, count, how, side, images, crops, steps, table),
            "policy": lambda: applying.apply_steps(steps, flat, scratch, shape, drawn.interpolation, fill),
            "finish": lambda: finishing.finish(by_word, table, levels, mode, precision, shape, target),
        }
        return works if drawn.num_steps else {name: work for name, work in works.items() if name != "policy"}
