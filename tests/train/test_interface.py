"""The interface that gloo takes between nodes: two network namespaces stand for two nodes whose names lead to themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch._C._distributed_c10d import HashStore

from deit_fast.train import interface
from deit_fast.train.interface import VARIABLE, choose_interface
from deit_fast.train.launch import Launch

# each node has an interface of another name, and 127.0.1.1 for its own name, as Debian writes it
_NODES = r"""
set -e
mount -t tmpfs tmpfs /run && mkdir -p /run/netns
ip netns add n1; ip netns add n2
ip link add first netns n1 type veth peer name second netns n2
for n in 1 2; do
    card=$([ $n = 1 ] && echo first || echo second)
    nsenter --net=/run/netns/n$n sh -c "ip link set lo up; ip addr add 10.9.0.$n/24 dev $card; ip link set $card up"
    echo "127.0.0.1 localhost
127.0.1.1 node$n
10.9.0.$((3 - n)) node$((3 - n))" > $SCRATCH/hosts$n
    (
        export RANK=$((n - 1)) WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1
        exec nsenter --net=/run/netns/n$n unshare -um sh -c \
            "hostname node$n; mount --bind $SCRATCH/hosts$n /etc/hosts; exec timeout 150 '$PYTHON' $SCRATCH/rank.py"
    ) > $SCRATCH/out$n &
    pids[$n]=$!
done
wait -n && wait -n || kill ${pids[@]}  # where one fails the other waits on
"""
_RANK = f"""
import os, sys
from deit_fast.config import UserError
from deit_fast.train.dist import joined_world
for number, (master, interface) in enumerate({{meetings}}):
    os.environ.update(MASTER_ADDR=master, MASTER_PORT=str(29511 + number))
    os.environ.pop("{VARIABLE}", None)
    if interface:
        os.environ["{VARIABLE}"] = interface
    try:
        with joined_world("cpu") as world:
            print(world.gather(os.environ.get("{VARIABLE}")), flush=True)
    except UserError as error:
        sys.exit(print(error) or 1)
"""


def _meet(scratch: Path, *meetings: tuple[str, str]) -> list[list[str]]:
    """Lines of each of two ranks that meet several times, at (master, the interface that is set or "")."""
    (scratch / "rank.py").write_text(_RANK.format(meetings=meetings))
    environment = {"SCRATCH": str(scratch), "PYTHON": sys.executable}
    command = ["unshare", "-rnm", "bash", "-c", _NODES]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200, check=False)
    outs = [scratch / f"out{number}" for number in (1, 2)]
    assert all(out.exists() for out in outs), done.stderr
    return [out.read_text().splitlines() for out in outs]


def _lacks_namespaces() -> bool:
    trial = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add a && nsenter --net=/run/netns/a unshare -um true"
    try:
        return subprocess.run(["unshare", "-rnm", "sh", "-c", trial], capture_output=True, check=False).returncode != 0
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_whose_names_lead_to_themselves(tmp_path: Path) -> None:
    if _lacks_namespaces():
        pytest.skip("this machine makes no network namespaces")
    # node1 is 127.0.1.1 on rank 0's own node; a value that is set stays, and where it is wrong the line says what to set
    lines = _meet(tmp_path, ("10.9.0.1", ""), ("node1", ""), ("node1", "lo"))
    assert [of_rank[:2] for of_rank in lines] == [["['first', 'second']"] * 2] * 2
    said = "".join(line for of_rank in lines for line in of_rank[2:])
    assert "the ranks cannot connect by gloo (Gloo connectFullMesh failed" in said
    assert f"by {VARIABLE}=lo; want {VARIABLE} set on each node" in said


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "card"),
        ({"own": "10.9.0.2"}, None),  # others can use what gloo takes by itself
        ({"launch": Launch(0, 2, 0, 2)}, None),  # one node
        ({"set": "other"}, "other"),
        ({"cards": {}}, None),
    ],
)
def test_it_is_chosen_only_where_the_hosts_name_leads_to_itself(
    changes: dict[str, Any], wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "_address_of_host", lambda: changes.get("own", "127.0.1.1"))
    monkeypatch.setattr(interface, "_interfaces", lambda: changes.get("cards", {"10.9.0.1": "card"}))
    monkeypatch.setattr(interface, "_own_address_towards", {"10.9.0.1": "10.9.0.1"}.get)
    monkeypatch.setenv("MASTER_ADDR", "127.0.1.1")
    monkeypatch.setenv(VARIABLE, changes.get("set", ""))  # and is as it was after the test
    if "set" not in changes:
        monkeypatch.delenv(VARIABLE)
    store = HashStore()
    store.set("master of 1", "10.9.0.1")  # as the other node knows this one
    choose_interface(store, changes.get("launch", Launch(0, 2, 0, 1)), timedelta(seconds=5))
    assert os.environ.get(VARIABLE) == wanted
