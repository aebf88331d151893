"""How the ranks of a run find each other.

torchrun's environment gives each its rank, and an address at which all meet: a store that torchrun's agents share.

Each start of the ranks gets a part of its own in that store. PyTorch's process groups write their addresses into it under keys
that are the same at every start. Workers started again after a death may then read the addresses of the dead and fail, or wait
for ever (pytorch/pytorch#135712). The count of restarts that torchrun tells each worker cannot tell the starts apart: it counts
those that the worker's own node has caused.

Between nodes gloo gives other ranks the address of this host's name. If /etc/hosts has 127.0.1.1 for it, as on Debian, no other
node can use that address. The route to rank 0, through which all ranks have just met, has a usable one.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import socket
import struct
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from deit_fast.config import RankError

if TYPE_CHECKING:  # a sweep reads the environment, and does not wait for PyTorch
    from torch._C._distributed_c10d import Store

PATIENCE = timedelta(minutes=30)  # as long as PyTorch's process groups wait for their ranks
_PAUSE = 0.01  # seconds
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
_SIOCGIFADDR = 0x8915  # of Linux: the IPv4 address of an interface


@dataclass(frozen=True)
class Launch:
    """Rank and number of ranks, of all and of this node (0 of 1 where that is not said). Without torchrun: rank 0 of 1."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int


def launch_of_environment() -> Launch:
    """What RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE say. Raises RankError where they do not fit each other, or where
    several ranks have no MASTER_ADDR and MASTER_PORT to meet at."""
    world_size = _number("WORLD_SIZE", 1, least=1)
    rank = _number("RANK", 0)
    for name, other, is_missed in (
        ("WORLD_SIZE", "RANK", world_size > 1),
        ("RANK", "WORLD_SIZE", True),
    ):
        if is_missed and name in os.environ and other not in os.environ:
            raise RankError(
                f"{name}={os.environ[name]} is set and {other} is not: want both, as torchrun sets them; for a single process "
                f"unset {name}"
            )
    if rank >= world_size:
        raise RankError(f"RANK={rank}: want 0 to {world_size - 1}, for WORLD_SIZE={world_size}")
    if world_size > 1:
        _check_meeting_place(world_size)
    return Launch(rank, world_size, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1, least=1))


def _check_meeting_place(world_size: int) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise RankError(
                f"WORLD_SIZE={world_size} is set and {name} is not: want where rank 0 is to be met; torchrun sets it"
            )
    port = _number("MASTER_PORT", 0, least=1)
    if port > 65535:
        raise RankError(f"MASTER_PORT={port}: want 1 to 65535")


def _number(name: str, default: int, least: int = 0) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise RankError(f"{name}={text}: want a whole number of at least {least}, as torchrun sets it, or {name} unset")
    return int(text)


def new_part_of(store: Store, rank: int, world_size: int, patience: timedelta = PATIENCE) -> Store:
    """The part of a store that the world_size ranks of one start share, and no earlier start wrote to.

    Rank 0 proposes a name. Others answer, with a name of their own, until a list of those that rank 0 heard from holds theirs:
    a proposal left by an earlier rank 0 has no such list. Raises TimeoutError where a rank does not come within patience."""
    from torch._C._distributed_c10d import PrefixStore

    deadline = time.monotonic() + patience.total_seconds()
    name = uuid.uuid4().hex
    if rank == 0:
        store.set("start", name)
        start = PrefixStore(name, store)
        start.set("present", json.dumps([_answer_of(start, other, deadline) for other in range(1, world_size)]))
        return start
    while True:
        start = PrefixStore(_value(store, "start", deadline), store)
        start.set(f"answer of {rank}", name)
        if start.check(["present"]) and name in json.loads(start.get("present")):
            return start
        _pause(deadline, "rank 0")


def _answer_of(start: Store, rank: int, deadline: float) -> str:
    return _value(start, f"answer of {rank}", deadline)


def _value(store: Store, key: str, deadline: float) -> str:
    """The value of a key, as soon as some rank has set it."""
    while not store.check([key]):
        _pause(deadline, key)
    return store.get(key).decode()


def _pause(deadline: float, awaited: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"the ranks did not meet: waited for {awaited}")
    time.sleep(_PAUSE)


def choose_interface(store: Store, launch: Launch, patience: timedelta) -> None:
    """Set GLOO_SOCKET_IFNAME if ranks are on several nodes and this host's name leads only to itself.

    An existing value stays; if no interface is found, none is set. Every rank calls it. store: shared by all, and new.
    patience: how long ranks wait for each other."""
    if launch.world_size == launch.local_world_size:
        return
    master = _routable_address(os.environ["MASTER_ADDR"])
    # on rank 0's own node its name may lead to loopback too: the others say by which address they know it
    store.set(f"master of {launch.rank}", master)
    if GLOO_INTERFACE in os.environ or not _is_loopback(_address_of_host()):
        return
    known = [master]
    if not master:
        names = [f"master of {rank}" for rank in range(launch.world_size)]
        store.wait(names, patience)
        known = sorted({store.get(name).decode() for name in names} - {""})
    interfaces = _interfaces()
    for address in known:
        interface = interfaces.get(_own_address_towards(address))
        if interface is not None:
            os.environ[GLOO_INTERFACE] = interface
            return


def _routable_address(host: str) -> str:
    """The first address of a host that is not loopback; empty where there is none."""
    return next((address for address in _addresses(host) if not _is_loopback(address)), "")


def _address_of_host() -> str:
    """The address that gloo uses by default: the first of this host's name that can be bound."""
    for address in _addresses(socket.gethostname()):
        try:
            with socket.socket(_family(address)) as trial:
                trial.bind((address, 0))
        except OSError:
            continue
        return address
    return "127.0.0.1"


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


def _own_address_towards(address: str) -> str:
    """This node's address on the route to another; nothing is sent."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as trial:
            trial.connect((address, 9))
            return str(trial.getsockname()[0])
    except OSError:
        return ""


def _interfaces() -> dict[str, str]:
    """The interface of each of this node's addresses but loopback."""
    found: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:  # it has none
                continue
            found[socket.inet_ntoa(answer[20:24])] = name
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else ():
        digits, *_, name = line.split()
        found[str(ipaddress.IPv6Address(bytes.fromhex(digits)))] = name
    return {address: name for address, name in found.items() if not _is_loopback(address)}


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
