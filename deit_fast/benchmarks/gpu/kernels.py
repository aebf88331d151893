"""Times each kernel of the GPU path on a batch of photographs, beside the bytes and the work that bound it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import fill_of, policy_of
from deit_fast.benchmarks.gpu.batch import Sent, Source, send
from deit_fast.benchmarks.gpu.bounds import INSTRUCTIONS_OF_BLOCK, INSTRUCTIONS_OF_PIXEL, Needs, bounds_of, tile_needs
from deit_fast.benchmarks.gpu.ceilings import timed
from deit_fast.benchmarks.gpu.parts import in_one_line
from deit_fast.benchmarks.gpu.symbols import count_symbols
from deit_fast.config import RunConfig
from deit_fast.kernels import crop, erase
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
    batch = send(source, source.planned(ids), device)
    dtype = config.data.dtype if config.data.dtype in PRECISIONS else "bfloat16"
    views = _Views(config, batch, source.side, dtype)
    works = {**decode_works(batch), **views.works()}
    symbols = count_symbols(batch.encoded, batch.jpegs, batch.tiles)
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
        "damaged": _num_damaged(batch),
        "left": batch.num_left,
        "kernels": kernels,
    }


def amounts(batch: Sent, symbols: np.ndarray) -> dict[str, int]:
    """How much there is to decode in a batch; symbols (T,): of its tiles."""
    totals = batch.totals
    return {
        "photographs": totals.jobs,
        "tiles": int(np.count_nonzero(symbols)),
        "symbols": int(symbols.sum()),
        "symbols_of_longest_tile": int(symbols.max()),
        "blocks": totals.blocks,
        "wanted_blocks": batch.num_wanted_blocks,
        "pixels": batch.num_pixels,
        "encoded_bytes": totals.encoded,
    }


def _needs(batch: Sent, symbols: np.ndarray, side: int, dtype: str, num_steps: int) -> dict[str, Needs]:
    """What each kernel must move and compute at least."""
    from deit_fast.kernels.cuda import jpeg_bits

    totals, wanted = batch.totals, batch.num_wanted_blocks
    count, num_pixels = len(batch.ids), batch.num_pixels
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


def _num_damaged(batch: Sent) -> int | None:
    try:
        return int(torch.count_nonzero(batch.memory.statuses))
    except RuntimeError:  # an error of CUDA that lasts
        return None


def decode_works(batch: Sent) -> Works:
    """A call of each step of decoding, by its name in DECODE, and of "transfer"."""
    from deit_fast.kernels.cuda import jpeg_bits, jpeg_pixels, jpeg_samples

    memory, totals, count = batch.memory, batch.totals, batch.totals.jpegs
    (encoded, jpegs, tiles), (bits, coefficients, samples, pixels, statuses) = memory.arrays
    there = memory.encoded[: totals.encoded], memory.tables
    sent = [part.cpu().pin_memory() if part.is_cuda else part.clone() for part in there]

    def transfer() -> None:
        for source, target in zip(sent, there, strict=True):
            target.copy_(source, non_blocking=True)

    def zero() -> None:
        memory.coefficients[: 64 * totals.blocks].zero_()
        memory.statuses.zero_()

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
    batch: Sent
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

        augment, data, device = self.config.augment, self.config.data, self.batch.memory.pixels.device
        count, side = len(self.batch.ids), self.side

        def there(values: np.ndarray) -> Any:
            return array(torch.from_numpy(values).to(device))

        drawn, fill = policy_of(augment, data.interpolation), fill_of(augment)
        images, crops, pixels = there(self.batch.images), there(self.batch.crops), array(self.batch.memory.pixels)
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
