"""Memory that a mapped file takes while it is read window by window: Linux tells which of its pages are there."""

import ctypes
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deit_fast.data.format.beton_set import Stretch
from deit_fast.data.format.mapped import map_file
from deit_fast.data.load.page_order import ReadSchedule, cut_into_chunks, read_schedule, sample_stream
from deit_fast.data.load.read_ahead import ReadAhead

MB = 1 << 20
FILE_BYTES = 96 * MB
IMAGE_BYTES = 50_000


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file none of whose pages is in memory; each 8 bytes hold their number."""
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("no posix_fadvise on this platform")
    path = tmp_path_factory.mktemp("readahead") / "big"
    np.arange(FILE_BYTES // 8, dtype=np.int64).tofile(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        _drop(file.fileno())
    mapped = np.memmap(path, np.uint8, mode="r")
    if resident_bytes(mapped) != 0:
        pytest.skip("a file system without a page cache of its own: nothing can be given back")
    yield path
    path.unlink()


def _drop(file: int) -> None:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def mapped(big_file: Path) -> np.memmap:
    with big_file.open("rb") as file:
        _drop(file.fileno())
    return np.memmap(big_file, np.uint8, mode="r")


def resident_bytes(mapped: NDArray[np.uint8], start: int = 0, length: int | None = None) -> int:
    """Bytes of a mapped file's range that are in the page cache; start is a multiple of the page size."""
    length = len(mapped) - start if length is None else length
    pages = np.zeros(-(-length // mmap.PAGESIZE), np.uint8)
    library = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p(mapped.ctypes.data + start)
    assert library.mincore(address, ctypes.c_size_t(length), pages.ctypes.data_as(ctypes.c_char_p)) == 0
    return int((pages & 1).sum()) * mmap.PAGESIZE


def num_descriptors(path: Path) -> int:
    """How often this process has a file open."""
    return sum(str(path) in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _share_resident(mapped: np.memmap, starts: NDArray[np.int64]) -> float:
    """How much of the images that start there is in the page cache."""
    pages = starts // mmap.PAGESIZE * mmap.PAGESIZE
    return sum(resident_bytes(mapped, int(page), IMAGE_BYTES) for page in pages) / (len(pages) * IMAGE_BYTES)


def schedule_of(rows: list[tuple[int, int, int, int]]) -> ReadSchedule:
    columns: NDArray[np.int64] = np.array(rows, np.int64).T
    return ReadSchedule(*columns)


def _ahead(path: Path, mapped: NDArray[np.uint8], schedule: ReadSchedule, **steps: int) -> ReadAhead:
    """For a single file."""
    return ReadAhead([Stretch(path, 1, 0, 0)], [mapped], schedule, **steps)


def test_what_is_asked_for_comes_and_what_is_done_goes(big_file: Path, mapped: np.memmap) -> None:
    early, late = (4 * MB, 20 * MB, 0, 3), (40 * MB, 41 * MB, 8, 9)
    ahead = _ahead(big_file, mapped, schedule_of([early, late]), steps_ahead=2, steps_behind=1)
    ahead.advance(0)
    # all 16 MB, though the kernel cuts a single request short; it may also take single pages away again at any time
    wait_until(lambda: resident_bytes(mapped, 4 * MB, 16 * MB) > 15 * MB)
    assert resident_bytes(mapped) <= 16 * MB
    for step in range(1, 5):
        ahead.advance(step)
    time.sleep(0.2)
    assert 15 * MB < resident_bytes(mapped) <= 16 * MB
    ahead.advance(5)
    wait_until(lambda: resident_bytes(mapped) == 0)
    ahead.advance(6)
    wait_until(lambda: resident_bytes(mapped, 40 * MB, MB) > 0.9 * MB)
    ahead.close()
    assert resident_bytes(mapped) == 0
    ahead.close()


def test_a_page_shared_with_a_range_in_use_stays(big_file: Path, mapped: np.memmap) -> None:
    page = mmap.PAGESIZE
    rows = [(0, 10 * page + 100, 0, 0), (10 * page + 100, 20 * page, 0, 5)]
    ahead = _ahead(big_file, mapped, schedule_of(rows), steps_ahead=0, steps_behind=0)
    ahead.advance(0)
    wait_until(lambda: resident_bytes(mapped) == 20 * page)
    ahead.advance(1)
    wait_until(lambda: resident_bytes(mapped) == 10 * page)
    assert resident_bytes(mapped, 10 * page, 10 * page) == 10 * page
    ahead.close()
    assert resident_bytes(mapped) == 0


def test_pages_leave_memory_with_the_last_that_maps_them(big_file: Path, mapped: np.memmap) -> None:
    other = np.memmap(big_file, np.uint8, mode="r")  # as another rank's process has it
    schedule = schedule_of([(0, 4 * MB, 0, 0)])
    ours, others = (_ahead(big_file, each, schedule, steps_ahead=0, steps_behind=0) for each in (mapped, other))
    for ahead in (ours, others):
        ahead.advance(0)
    wait_until(lambda: resident_bytes(mapped) > 3 * MB)
    other[: 4 * MB].max()
    ours.close()
    assert resident_bytes(other) > 3 * MB
    others.close()
    assert resident_bytes(other) == 0


def test_an_epoch_by_pages_reads_everything_within_the_window(big_file: Path, mapped: np.memmap) -> None:
    count = FILE_BYTES // IMAGE_BYTES
    sizes = np.full(count, IMAGE_BYTES, np.uint64)
    offsets = np.cumsum(sizes) - sizes
    chunks = cut_into_chunks(offsets, sizes, np.arange(count), MB // 2)
    window_bytes, batch_size = 16 * MB, 20
    stream = sample_stream(chunks, seed=0, epoch=0, window_bytes=window_bytes)
    steps = np.arange(count) // batch_size
    ahead = _ahead(big_file, mapped, read_schedule(chunks, stream, steps, count), steps_ahead=2, steps_behind=1)
    most = 0
    for step in range(steps[-1] + 1):
        ahead.advance(step)
        starts = offsets[stream[steps == step]].astype(np.int64)
        wait_until(lambda starts=starts: _share_resident(mapped, starts) > 0.9)  # type: ignore[misc]
        for start in starts.tolist():
            first = -(-start // 8)
            words = mapped[first * 8 : (start + IMAGE_BYTES) // 8 * 8].view(np.int64)
            np.testing.assert_array_equal(words, np.arange(first, first + len(words)))
        most = max(most, resident_bytes(mapped))
    ahead.close()
    # a step's share of the file is 1 MB, and four of them are under way or on their way out; the rest is for pages that the
    # kernel took away, which come back with all of the device's readahead
    assert window_bytes / 2 < most < window_bytes + 30 * MB
    assert resident_bytes(mapped) == 0


def test_a_platform_without_the_calls_reads_as_ever(big_file: Path, mapped: np.memmap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    monkeypatch.delattr(mmap, "MADV_WILLNEED")
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    schedule = schedule_of([(0, MB, 0, 0), (MB, 2 * MB, 1, 1)])
    ahead = _ahead(big_file, mapped, schedule, steps_ahead=0, steps_behind=0)
    for step in range(3):
        ahead.advance(step)
    ahead.close()
    assert resident_bytes(mapped) == 0
    assert mapped[:16].view(np.int64).tolist() == [0, 1]


def test_an_error_in_the_thread_reaches_the_caller(big_file: Path, mapped: np.memmap, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = _ahead(big_file, mapped, schedule_of([(0, MB, 0, 0), (MB, 2 * MB, 1, 1)]), steps_ahead=0, steps_behind=0)
    ahead.advance(0)

    def fail(*_: object) -> None:
        raise OSError("no advice today")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fadvise", fail)
        ahead.advance(1)
        wait_until(lambda: ahead._error is not None)
    with pytest.raises(OSError, match="no advice today"):
        ahead.advance(2)
    ahead.close()


def test_several_files_are_read_and_given_back_without_staying_open(big_file: Path, mapped: np.memmap, tmp_path: Path) -> None:
    other = tmp_path / "other"
    np.zeros(FILE_BYTES // 8, np.uint8).tofile(other)
    with other.open("rb") as file:
        os.fsync(file.fileno())
        _drop(file.fileno())
    memory = map_file(other)
    start = 128 * MB  # of the other on the line
    rows = [(4 * MB, 6 * MB, 0, 0), (start + MB, start + 2 * MB, 0, 0), (start + 3 * MB, start + 4 * MB, 1, 2)]
    stretches = [Stretch(big_file, 1, 0, 0), Stretch(other, 1, 1, start)]
    ahead = ReadAhead(stretches, [mapped, memory], schedule_of(rows), steps_ahead=0, steps_behind=0)
    ahead.advance(0)
    assert num_descriptors(other) == 0
    wait_until(lambda: resident_bytes(mapped, 4 * MB, 2 * MB) == 2 * MB and resident_bytes(memory, MB, MB) == MB)
    ahead.advance(1)
    wait_until(lambda: resident_bytes(mapped) == 0 and resident_bytes(memory, 0, 3 * MB) == 0)
    wait_until(lambda: resident_bytes(memory, 3 * MB, MB) == MB and num_descriptors(other) == 0)
    other.unlink()  # which is no reason for an error
    ahead.close()
    assert resident_bytes(mapped) == 0


def test_a_page_stays_while_the_same_file_is_shown_a_second_time(big_file: Path, mapped: np.memmap) -> None:
    start = 128 * MB  # of the second showing on the line
    rows = [(4 * MB, 8 * MB, 0, 0), (start + 6 * MB, start + 7 * MB, 0, 5)]
    stretches = [Stretch(big_file, 1, 0, 0), Stretch(big_file, 1, 1, start)]
    ahead = ReadAhead(stretches, [mapped, mapped], schedule_of(rows), steps_ahead=0, steps_behind=0)
    ahead.advance(0)
    wait_until(lambda: resident_bytes(mapped) == 4 * MB)
    ahead.advance(1)
    wait_until(lambda: resident_bytes(mapped) == MB)
    assert resident_bytes(mapped, 6 * MB, MB) == MB
    ahead.close()
    assert resident_bytes(mapped) == 0
