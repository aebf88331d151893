"""Chooses the network interface by which gloo reaches other nodes.

Gloo gives other ranks the address of this host's name. If /etc/hosts has 127.0.1.1 for it, as on Debian, no other node can use
that address. The route to rank 0, through which all ranks have just met, has a usable one.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from datetime import timedelta
from pathlib import Path

from torch._C._distributed_c10d import Store

from deit_fast.train.launch import Launch

VARIABLE = "GLOO_SOCKET_IFNAME"
_SIOCGIFADDR = 0x8915  # of Linux: the IPv4 address of an interface


def choose_interface(store: Store, launch: Launch, patience: timedelta) -> None:
    """Set GLOO_SOCKET_IFNAME if ranks are on several nodes and this host's name leads only to itself.

    An existing value stays; if no interface is found, none is set. Every rank calls it. store: shared by all, and new.
    patience: how long ranks wait for each other."""
    if launch.world_size == launch.local_world_size:
        return
    master = _routable_address(os.environ["MASTER_ADDR"])
    # on rank 0's own node its name may lead to loopback too: the others say by which address they know it
    store.set(f"master of {launch.rank}", master)
    if VARIABLE in os.environ or not _is_loopback(_address_of_host()):
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
            os.environ[VARIABLE] = interface
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
