"""This process among the ranks: its device, and the collectives that training needs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import nn
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from deit_fast.config import RankError, UserError
from deit_fast.cores import num_cores
from deit_fast.train.rendezvous import GLOO_INTERFACE, PATIENCE, choose_interface, launch_of_environment, new_part_of

Result = TypeVar("Result")
# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MOST = 2**31 - 1  # bytes; an int
_TOP_PAD = 64 << 20


@dataclass(frozen=True)
class World:
    """One rank of world_size, on its device. Without torchrun: rank 0 of 1."""

    rank: int
    world_size: int
    device: torch.device
    control_group: torch.distributed.ProcessGroup | None = None  # between CPUs, for what must not wait for the device

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the record."""
        return self.rank == 0

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on every rank."""
        if self.world_size > 1:
            torch.distributed.all_reduce(numbers)
        return numbers

    def gather(self, item: Any) -> list[Any]:
        """The values of all ranks, in the order of ranks, on every rank. value: any object that can be pickled."""
        if self.world_size == 1:
            return [item]
        items: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(items, item, group=self.control_group)
        return items

    def share_buffers(self, module: nn.Module) -> None:
        """Copy rank 0's buffers (batch statistics), which checkpoints hold, to every rank."""
        if self.world_size > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def only_on_main(self, action: Callable[[], Result]) -> Result | None:
        """Run an action on rank 0; gives its result there, None on other ranks. Its UserError is raised on every rank."""
        result: Result | None = None
        problem: UserError | None = None
        if self.is_main:
            try:
                result = action()
            except UserError as error:
                problem = error
        problem = self.gather(problem)[0]
        if problem is not None:
            raise problem
        return result


def world_size_of_environment() -> int:
    """Number of ranks that torchrun started, or 1. Raises RankError where the environment contradicts itself."""
    return launch_of_environment().world_size


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of that name ("auto", "cpu" or "cuda") for a rank. Raises UserError if it is not there."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(f"train.device={name}: this machine has no usable CUDA device; want cpu or auto")
    if local_rank >= torch.cuda.device_count():
        raise RankError(f"rank {local_rank} of this node has no GPU: the node has {torch.cuda.device_count()}; start fewer")
    return torch.device("cuda", local_rank)


def _num_compute_threads() -> int:
    """Threads with which PyTorch computes on the CPU on this rank: OMP_NUM_THREADS where set, else its share of the cores.

    FFCV sets PyTorch to one thread when it is imported, so the number has to be stated."""
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, num_cores() // local_ranks)


@contextmanager
def joined_world(device_name: str) -> Iterator[World]:
    """This process's world: NCCL between GPUs, gloo between CPUs; left again on the way out."""
    launch = launch_of_environment()
    rank, world_size = launch.rank, launch.world_size
    device = choose_device(device_name, launch.local_rank)
    torch.set_num_threads(_num_compute_threads())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    if world_size == 1:
        yield World(0, 1, device)
        return
    store = new_part_of(_agents_store(), rank, world_size)
    choose_interface(store, launch, PATIENCE)
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        with _gloos_errors_in_one_line():
            torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)
            control_group = torch.distributed.new_group(backend="gloo")
        assert isinstance(control_group, torch.distributed.ProcessGroup)
        yield World(rank, world_size, device, control_group)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _agents_store() -> Store:
    """The store at MASTER_ADDR and MASTER_PORT, which is torchrun's agents' or rank 0's."""
    try:
        store, _, _ = next(rendezvous("env://"))
    except torch.distributed.DistNetworkError as error:
        place = ":".join(os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise RankError(
            f"the ranks cannot meet at MASTER_ADDR:MASTER_PORT={place}: {str(error).splitlines()[0]}; want an address of rank "
            "0's node that all nodes reach, and a free port"
        ) from error
    assert isinstance(store, Store)
    return store


@contextmanager
def _gloos_errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error).lower():
            raise
        interface = os.environ.get(GLOO_INTERFACE, "")
        raise RankError(
            f"the ranks cannot connect by gloo ({str(error).splitlines()[0]}), by {GLOO_INTERFACE}={interface}; "
            f"want {GLOO_INTERFACE} set on each node to the interface by which other nodes reach it, as `ip address` lists them"
        ) from error


def keep_freed_memory() -> bool:
    """Makes this process keep the memory that it frees; returns whether it does.

    By default glibc returns the top of its heap to the system as soon as a little of it is free, and maps large pieces one by
    one, so a step or an evaluation begins with its pages being mapped and cleared again.
    How often depends on how pieces happen to lie, and differs from process to process: an evaluation of 1,438 digits had 2 to
    131,804 page faults and took 0.52 to 0.69 s; with its memory kept, 3 to 4 and 0.53 s. Large pieces are no longer mapped
    one by one either: ResNet-18's step at 160 takes 0.86 of its former time, and EfficientNet-B3 classifies 2.7 times as many
    images (records/2026-11-21-time-and-money). The process never shrinks below its peak size. Nothing is changed if the user
    has set the allocator, or it is not glibc's.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _MOST), mallopt(_M_TOP_PAD, _TOP_PAD)]
    return all(taken)
