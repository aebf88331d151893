"""The folder of a run: which one it is, whether the run goes on in it, and the checkpoints that it keeps.

Each checkpoint is `step-NNNNNNNN.pt`, NNNNNNNN steps into the run; the newest few stay. `last.pt`, `best.pt` and those kept for
good, `epoch-NNNN.pt`, are further names of the same files, so that they cost no bytes while the file has its own name.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deit_fast.config import OptimConfig, RunConfig, UserError
from deit_fast.record.run import read_json
from deit_fast.train.checkpoint import link_checkpoint, load_checkpoint, save_checkpoint
from deit_fast.train.dist import World
from deit_fast.train.ema import WeightAverage
from deit_fast.train.optim import num_moments

_RUNS = Path("runs")
LAST, BEST = "last.pt", "best.pt"


@contextlib.contextmanager
def folder_of_run(config: RunConfig, world: World) -> Iterator[Path]:
    """The folder of a run, the same on every rank: run.dir, or if that is empty a new one, runs/NAME-DATE-TIME.

    Rank 0 makes a new one at once, so that runs that start in the same second get different ones, and removes it at the end
    if it is still empty. Raises UserError on every rank if it cannot be made.
    """
    if config.run.dir:
        yield Path(config.run.dir)
        return
    made = world.only_on_main(lambda: _new_folder(f"{config.model.name}-{datetime.now():%Y%m%d-%H%M%S}"))
    folder: Path = world.gather(made)[0]
    try:
        yield folder
    finally:
        if world.is_main:
            with contextlib.suppress(OSError):  # of a folder that is not empty
                folder.rmdir()


def _new_folder(name: str) -> Path:
    """Makes runs/NAME or, if that exists, the first of runs/NAME-2, runs/NAME-3, ... that does not."""
    for number in itertools.count(1):
        folder = _RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not _RUNS.is_dir():
                raise UserError(f"{_RUNS}: is not a folder, and runs go there; choose a --run.dir") from None
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose a --run.dir") from None
        else:
            return folder
    raise AssertionError("the numbers have no end")


def resumes(config: RunConfig) -> bool:
    """Whether this rank resumes the run in its folder: if asked to, or if torchrun restarts it. If one does, all do.

    Raises UserError if torchrun may restart them and run.dir is empty, so that they could not find the folder again.
    """
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0 and not config.run.dir:
        raise UserError("run.dir is not set: want a folder, where ranks that torchrun restarts (--max-restarts) go on")
    return config.train.resume or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def check_same_place(found: list[str | None], folder: Path) -> None:
    """Raises UserError if ranks would resume from different places. found: name of the checkpoint that each rank found.

    If each node has the folder on its own disk, only the first node has checkpoints, and the others would start anew.
    """
    if len(set(found)) > 1:
        rank = next(rank for rank, name in enumerate(found) if name != found[0])
        here, there = (name or "no checkpoint" for name in (found[0], found[rank]))
        raise UserError(
            f"run.dir={folder}: rank 0 finds {here} there, rank {rank} finds {there}; want a folder that all nodes share"
        )


def former_summary(folder: Path, world: World, weights_sha256: str) -> dict[str, Any] | None:
    """The summary of a run that ended with these weights, on every rank; None if there is none."""

    def read() -> dict[str, Any] | None:
        with contextlib.suppress(UserError):  # there is none, or a broken one, and the end writes it anew
            summary = read_json(folder / "summary.json")
            return summary if summary.get("weights_sha256") == weights_sha256 else None
        return None

    found: dict[str, Any] | None = world.gather(world.only_on_main(read))[0]
    return found


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written to the disk, or failed; error says why."""

    path: Path
    epoch: int
    step: int
    is_best: bool
    seconds: float
    error: str = ""


class Keeper:
    """Writes checkpoints of a run into a folder, one at a time, in a thread. A failed one replaces none before it."""

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder = folder
        self._keep_last = keep_last
        self._thread: threading.Thread | None = None
        self._done: queue.Queue[Saved | BaseException] = queue.Queue()
        self._snapshot = _Snapshot()

    def save(self, content: dict[str, Any], *, epoch: int, step: int, is_best: bool, kept_name: str = "") -> None:
        """Copy the content and write it in the background. step: of the run. kept_name: a further name for good, or none.

        Waits for the checkpoint before, if that is not yet written, and for the device."""
        self.wait()
        copy = self._snapshot.take(content)
        names = [LAST, *([BEST] if is_best else []), *([kept_name] if kept_name else [])]
        self._thread = threading.Thread(
            target=self._write, args=(copy, epoch, step, names), name="deit_fast-checkpoint", daemon=False
        )
        self._thread.start()

    def _write(self, content: dict[str, Any], epoch: int, step: int, names: list[str]) -> None:
        started = time.perf_counter()
        path = self.folder / _step_name(step)
        error = ""
        try:
            save_checkpoint(path, content)
            for name in names:
                link_checkpoint(path, name)
            for old in step_files(self.folder)[: -self._keep_last]:
                old.unlink()
        except (OSError, RuntimeError) as problem:  # PyTorch reports a failed write as a RuntimeError
            error = _reason(problem)
        except BaseException as problem:
            self._done.put(problem)
            return
        self._done.put(Saved(path, epoch, step, BEST in names, time.perf_counter() - started, error))

    def finished(self) -> list[Saved]:
        """The checkpoints that finished or failed since the last call, in order."""
        items: list[Saved] = []
        while not self._done.empty():
            item = self._done.get()
            if isinstance(item, BaseException):
                raise item
            items.append(item)
        return items

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:200]


class _Snapshot:
    """Copies of a checkpoint's tensors in CPU memory, which is reused for the next; pinned if they come from CUDA.

    They are contiguous in any memory format of the model, as safetensors and other readers need them."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, content: dict[str, Any]) -> dict[str, Any]:
        """Copies the content. A tensor that occurs twice in it is shared in the copy too."""
        copies: dict[int, torch.Tensor] = {}
        copied: dict[str, Any] = self._copy(content, "", copies)
        if any(buffer.is_pinned() for buffer in copies.values()):
            torch.cuda.synchronize()
        return copied

    def _copy(self, value: Any, name: str, copies: dict[int, torch.Tensor]) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in copies:
                copies[id(value)] = self._copy_tensor(value, name)
            return copies[id(value)]
        if isinstance(value, dict):
            return {key: self._copy(item, f"{name}/{key}", copies) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._copy(item, f"{name}/{i}", copies) for i, item in enumerate(value))
        return value

    def _copy_tensor(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[name] = buffer
        return buffer.copy_(tensor.detach(), non_blocking=True)


def _step_name(step: int) -> str:
    """File name of the checkpoint after a number of steps of a run."""
    return f"step-{step:08d}.pt"


def kept_name(epochs_done: int, keep_every: int | None) -> str:
    """File name of the checkpoint after a number of whole epochs, if train.keep_every keeps it for good; else empty."""
    is_kept = keep_every is not None and epochs_done > 0 and epochs_done % keep_every == 0
    return f"epoch-{epochs_done:04d}.pt" if is_kept else ""


def step_files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest last."""
    return sorted(folder.glob("step-*.pt"))


def load_newest(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """The newest checkpoint of a folder and its path; None if there is none.

    It is the newest step-NNNNNNNN.pt or, if only last.pt was kept, that. Raises UserError if it is damaged, and names the one
    before it; and if only other checkpoints exist.
    """
    files = step_files(folder) or [path for path in (folder / LAST,) if path.exists()]
    if not files:
        others = sorted(folder.glob("*.pt"))
        if others:
            raise UserError(
                f"{folder}: holds {others[-1].name}, but no newest checkpoint; copy one to {LAST} to go on from there"
            )
        return None
    try:
        return load_checkpoint(files[-1]), files[-1]
    except UserError as error:
        if len(files) > 1:
            raise UserError(f"{error}; the one before it is {files[-2]}: delete the damaged one to go on from there") from None
        others = [path for path in sorted(folder.glob("*.pt")) if not path.samefile(files[0])]
        if others:
            names = ", ".join(path.name for path in others)
            raise UserError(f"{error}; there is {names} still: delete the damaged one, and copy one to {LAST}") from None
        raise UserError(f"{error}; there is none before it: start a new run") from None


def mend_names(folder: Path, content: dict[str, Any], path: Path, keep_every: int | None) -> None:
    """Gives the newest checkpoint the names that a kill left missing, and removes half-written files.

    content: of the newest checkpoint, at least place, step and best_step."""
    epochs_done, steps_done = content["place"]
    kept = kept_name(epochs_done, keep_every) if steps_done == 0 else ""
    for name in (LAST, BEST if content["best_step"] == content["step"] else "", kept):
        if name:
            link_checkpoint(path, name)
    for part in folder.glob(".*.part"):
        part.unlink()


def _checkpoint_bytes(model: nn.Module, average: WeightAverage | None, optim: OptimConfig) -> int:
    """Bytes of one checkpoint: weights, average and the optimiser's moments, without the kilobytes around them."""
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return weights * (1 if average is None else 2) + round(trained * num_moments(optim))


def check_disk_space(folder: Path, model: nn.Module, average: WeightAverage | None, config: RunConfig) -> None:
    """Raises UserError if the disk lacks space for the newest checkpoints, the best one and the one being written.

    folder: the run's, which need not exist yet."""
    train = config.train
    num_kept = train.epochs // train.keep_every if train.keep_every else 0
    size = _checkpoint_bytes(model, average, config.optim)
    there = {path.stat().st_ino: path.stat().st_size for path in (folder / "checkpoints").glob("*.pt")}
    wanted = size * (train.keep_last + 2 + num_kept) - sum(there.values())
    free = shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.is_dir())).free
    if free < wanted:
        raise UserError(
            f"run.dir={folder}: its disk has {_size(free)} left, and checkpoints of {_size(size)} each need "
            f"{_size(wanted)}; make room, choose another run.dir, or a smaller train.keep_last"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
