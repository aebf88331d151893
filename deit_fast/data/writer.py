"""Takes the samples of an image folder, gives a beton, written by processes that are watched until they end."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.memory_allocator import MemoryAllocator
from ffcv.utils import chunks
from ffcv.writer import MIN_PAGE_SIZE, DatasetWriter
from numpy.typing import NDArray
from tqdm import tqdm

from deit_fast.config import UserError, WriteConfig
from deit_fast.data.sources import BadImage, ImageFolder, read_image, scale_down

PAGE_BYTES = 4 * MIN_PAGE_SIZE  # FFCV's default
MAX_IMAGE_BYTES = 1 << 29  # no page gets so large that one write call, which takes up to 2 GiB, could cut it short
MAX_SIDE = {"jpg": 65500, "raw": 65535}  # libjpeg's limit; uint16 in the metadata
CHUNK_SAMPLES = 64  # samples that a worker takes at a time
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HINTS = {signal.SIGKILL: " (was memory short?)", signal.SIGBUS: " (is /dev/shm full?)"}
_PR_SET_PDEATHSIG = 1

_fork = multiprocessing.get_context("fork")  # workers inherit the sample list, the locks and the shared memory


class WorkerError(RuntimeError):
    """A worker process failed or died; says which image it had in hand, and its traceback where there is one."""


def storage_mode(config: WriteConfig, sample: int) -> str:
    """'jpg' or 'raw' for a sample: in mode proportion a draw keyed by (seed, sample), the same in whatever process."""
    if config.mode != "proportion":
        return config.mode
    key = np.array([config.seed % 2**64, sample], dtype=np.uint64)
    return "jpg" if np.random.Generator(np.random.Philox(key=key)).random() < config.jpeg_share else "raw"


class PageAllocator(MemoryAllocator):
    """FFCV's allocator of one worker, which also takes an image that is larger than a page.

    Such an image gets consecutive pages of its own, within one block aligned to a larger power of two, so that with
    that power as the page size in the header no image crosses a page. FFCV's own raises for such an image, and
    overlooks that the operating system may write a page in part (a full disk).
    """

    def malloc(self, size: int) -> tuple[int, NDArray[np.uint8]]:
        """File offset of `size` bytes for the current sample, and the memory to put them in, written out later."""
        if size <= self.page_size:
            return super().malloc(size)
        self.flush_page()
        with self.next_page_allocated.get_lock():
            self.my_page = self.next_page_allocated.value
            start = self.offset + self.my_page * self.page_size
            padding = -start % enclosing_page(size)
            num_pages = -(-(padding + size) // self.page_size)
            self.next_page_allocated.value = self.my_page + num_pages
        self.page_data = np.zeros(num_pages * self.page_size, "<u1")
        self.page_offset = padding + size  # beyond one page: the next image starts a new one
        self.allocations.append((self.current_sample_id, start + padding, size))
        return start + padding, self.page_data[padding : self.page_offset]

    def flush_page(self) -> None:
        super().flush_page()
        end = self.offset + self.my_page * self.page_size + self.page_data.size
        if self.my_page >= 0 and self.fp.tell() != end:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.fname)
        if self.page_data.size > self.page_size:
            with self.next_page_written.get_lock():
                self.next_page_written.value += self.page_data.size // self.page_size - 1
            self.page_data = np.zeros(self.page_size, "<u1")


def enclosing_page(num_bytes: int) -> int:
    """Smallest power of two that holds so many bytes, at least FFCV's default page."""
    return max(PAGE_BYTES, 1 << (num_bytes - 1).bit_length())


class BetonWriter(DatasetWriter):
    """FFCV's DatasetWriter for an image folder, with the fields `image` and `label`, and workers under watch.

    The stock writer counts finished samples and waits for ever when a worker raises or is killed; it resizes with
    OpenCV's INTER_AREA, and draws mode proportion from a global generator that all forked workers share the state of.
    Here each worker reports through a pipe of its own, whose end is seen when the process dies in whatever way, and any
    failure ends the whole conversion. `skipped` are the files left out. The partial file is the caller's to remove.
    """

    def __init__(self, path: Path, folder: ImageFolder, config: WriteConfig) -> None:
        self.folder = folder
        self.config = config
        self.skipped: dict[int, BadImage] = {}
        # FFCV finds a field's type id by its exact class: so there is a plain field for each mode, chosen by sample
        self.encoders = {mode: RGBImageField(mode, jpeg_quality=config.jpeg_quality) for mode in MAX_SIDE}
        num_workers = min(config.num_workers or len(os.sched_getaffinity(0)), len(folder.samples))
        super().__init__(str(path), {"image": RGBImageField(), "label": IntField()}, PAGE_BYTES, num_workers)

    def write(self) -> list[BadImage]:
        """Writes the beton, gives the files that were left out, in the order of the samples.

        Raises UserError for an image that does not decode (unless config.on_error is skip), one that cannot be stored,
        and a folder without a single image that decodes; WorkerError for a worker that raised or died; OSError for a
        full disk.
        """
        num_samples = len(self.folder.samples)
        size = max(1, min(CHUNK_SAMPLES, num_samples // (4 * self.num_workers)))
        self._write_common(num_samples, chunks(range(num_samples), size), self._convert, ())
        return [self.skipped[sample] for sample in sorted(self.skipped)]

    def _write_common(
        self,
        num_samples: int,
        queue_content: Iterable[Any],
        work_fn: Callable[..., None],
        extra_worker_args: tuple[Any, ...],
    ) -> None:
        self.num_samples = num_samples
        self.prepare()
        try:
            tasks = list(queue_content)
            allocator = PageAllocator(self.fname, self.data_region_start, self.page_size)
            with self._workers(work_fn, (tasks, allocator, *extra_worker_args)) as workers:
                allocations = self._watch(workers)
            allocations = self._leave_out_skipped(allocations)
            self.header["page_size"] = max(enclosing_page(size) for _, _, size in allocations)
            self.finalize(allocations)
        finally:
            self.metadata_sm.unlink()
            with suppress(BufferError):  # an array on it is still referred to by the exception under way
                self.metadata_sm.close()

    @contextmanager
    def _workers(self, work_fn: Callable[..., None], args: tuple[Any, ...]) -> Iterator[dict[Connection, BaseProcess]]:
        """Processes that run work_fn(worker number, pipe, *args), by the pipe they report through; ended on leaving."""
        self._next_task = _fork.Value("q", 0)
        self._sample_in_hand = _fork.RawArray("q", [-1] * self.num_workers)
        workers: dict[Connection, BaseProcess] = {}
        try:
            for worker in range(self.num_workers):
                with _signals_held():  # a signal between the fork and this list would leave a process behind
                    receiver, sender = _fork.Pipe(duplex=False)
                    process: BaseProcess = _fork.Process(target=work_fn, args=(worker, sender, *args), daemon=True)
                    process.start()
                    workers[receiver] = process
                    sender.close()  # the worker holds the only other end, so its death ends the pipe
            yield workers
        finally:
            for process in workers.values():
                process.kill()
            for receiver, process in workers.items():
                process.join()
                receiver.close()

    def _watch(self, workers: dict[Connection, BaseProcess]) -> list[tuple[int, int, int]]:
        """Takes the workers' reports until each has sent its allocations: (sample, offset in the file, bytes)."""
        allocations: list[tuple[int, int, int]] = []
        number_of = {receiver: worker for worker, receiver in enumerate(workers)}
        waiting = set(workers)
        with tqdm(total=self.num_samples, unit=" images", disable=None) as progress:
            while waiting:
                for receiver in wait(list(waiting)):
                    assert isinstance(receiver, Connection)
                    try:
                        kind, content = receiver.recv()
                    except (EOFError, OSError) as error:
                        raise self._death(number_of[receiver], workers[receiver]) from error
                    if kind == "converted":
                        progress.update(content)
                    elif kind == "bad image":
                        self._skip(*content)
                    elif kind == "allocations":
                        allocations.extend(content)
                        waiting.remove(receiver)
                    elif kind == "refused":
                        raise UserError(content)
                    elif kind == "disk full":
                        raise OSError(content, os.strerror(content), self.fname)
                    else:
                        assert kind == "failed"
                        in_hand = self._in_hand(number_of[receiver])
                        raise WorkerError(f"conversion worker {number_of[receiver]} failed {in_hand}\n{content}")
        return allocations

    def _skip(self, sample: int, reason: str) -> None:
        bad = BadImage(self.folder.samples[sample][0], reason)
        if self.config.on_error == "fail":
            raise UserError(f"{bad}; --write.on_error=skip leaves such files out")
        self.skipped[sample] = bad
        if len(self.skipped) == self.num_samples:
            raise UserError(f"{self.folder.root}: none of its {self.num_samples} files is an image; {bad}")

    def _in_hand(self, worker: int) -> str:
        sample = self._sample_in_hand[worker]
        return f"with {self.folder.samples[sample][0]} in hand" if sample >= 0 else "before its first image"

    def _death(self, worker: int, process: BaseProcess) -> WorkerError:
        process.join(timeout=10)
        code = process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}{_HINTS.get(signal.Signals(-code), '')}"
        return WorkerError(f"conversion worker {worker} {how} {self._in_hand(worker)}")

    def _leave_out_skipped(self, allocations: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Closes the gaps of skipped samples in the metadata and renumbers; the stored images stay where they are."""
        metadata = np.frombuffer(self.metadata_sm.buf, dtype=self.metadata_type)
        kept = np.ones(self.num_samples, dtype=bool)
        kept[list(self.skipped)] = False
        new_numbers = np.cumsum(kept) - 1
        num_kept = int(kept.sum())
        metadata[:num_kept] = metadata[kept]
        metadata[num_kept:] = np.zeros((), dtype=self.metadata_type)
        self.num_samples = self.header["num_samples"] = num_kept
        return [(int(new_numbers[sample]), offset, size) for sample, offset, size in allocations]

    def _convert(self, worker: int, reports: Connection, tasks: list[Sequence[int]], allocator: PageAllocator) -> None:
        """What a worker process does: takes ranges of samples and stores them, until none is left."""
        _become_worker()
        try:
            # No `with`: leaving it on an exception would wait for the pages of workers that may have failed as well
            allocator.__enter__()
            while (task := self._take_task(tasks)) is not None:
                for sample in task:
                    self._sample_in_hand[worker] = sample
                    try:
                        self._store(sample, allocator)
                    except BadImage as bad:
                        reports.send(("bad image", (sample, bad.reason)))
                reports.send(("converted", len(task)))
            allocator.__exit__(None, None, None)
            reports.send(("allocations", allocator.allocations))
        except UserError as error:
            reports.send(("refused", str(error)))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                reports.send(("disk full", error.errno))
            else:
                reports.send(("failed", traceback.format_exc()))

    def _take_task(self, tasks: list[Sequence[int]]) -> Sequence[int] | None:
        with self._next_task.get_lock():
            task = self._next_task.value
            self._next_task.value = task + 1
        return tasks[task] if task < len(tasks) else None

    def _store(self, sample: int, allocator: PageAllocator) -> None:
        path, label = self.folder.samples[sample]
        image_HWC = scale_down(read_image(path), self.config.max_resolution)
        height, width = image_HWC.shape[:2]
        mode = storage_mode(self.config, sample)
        if max(height, width) > MAX_SIDE[mode] or image_HWC.nbytes > MAX_IMAGE_BYTES:
            raise UserError(
                f"{path}: {width}x{height} pixels are too many for a beton: want sides of at most {MAX_SIDE[mode]} and "
                f"{MAX_IMAGE_BYTES // 3:,} pixels; write.max_resolution scales images down"
            )
        allocator.set_current_sample(sample)
        metadata = np.frombuffer(self.metadata_sm.buf, dtype=self.metadata_type)
        for column, field, value in zip(
            self.metadata_type.names, (self.encoders[mode], self.fields["label"]), (image_HWC, label), strict=True
        ):
            field.encode(metadata[column][sample : sample + 1], value, allocator.malloc)


def _become_worker() -> None:
    """Leaves Ctrl-C to the parent, ends when the parent ends, and keeps OpenCV from using threads.

    OpenCV's thread pool does not survive a fork, and would wait for ever for threads that only the parent has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    cv2.setNumThreads(0)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Holds signals that ask the process to end back until the block is left."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
