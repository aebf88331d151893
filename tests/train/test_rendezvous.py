"""How ranks find each other: by torchrun's environment, in a store that earlier starts have used, and between nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from torch._C._distributed_c10d import HashStore, Store

from deit_fast.__main__ import main
from deit_fast.config import RankError
from deit_fast.train import rendezvous
from deit_fast.train.rendezvous import GLOO_INTERFACE, Launch, choose_interface, launch_of_environment, new_part_of

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_WHOLE = dict(zip(_NAMES, ("5", "8", "1", "4", "a", "29500"), strict=True))


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, Launch(0, 1, 0, 1)),
        ({"WORLD_SIZE": "1"}, Launch(0, 1, 0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Launch(0, 1, 0, 1)),
        (_WHOLE, Launch(5, 8, 1, 4)),
    ],
)
def test_a_place_is_what_the_environment_says(
    environment: dict[str, str], wanted: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, environment)
    assert launch_of_environment() == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": None}, "WORLD_SIZE=8 is set and RANK is not"),
        ({"WORLD_SIZE": None}, "RANK=5 is set and WORLD_SIZE is not"),
        ({"RANK": "8"}, "RANK=8: want 0 to 7"),
        ({"RANK": "-1"}, "RANK=-1: want a whole number"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: want a whole number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE=: want a whole number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: want a whole number of at least 1"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x: want a whole number"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0: want a whole number of at least 1"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT=99999: want 1 to 65535"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {name: value for name, value in (_WHOLE | changes).items() if value is not None})
    with pytest.raises(RankError, match=message):
        launch_of_environment()


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"RANK": "1"}, {"RANK": "one", "WORLD_SIZE": "2"}])
def test_a_command_says_so_in_one_line(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _set(monkeypatch, environment)
    assert main(["train", "--data.train=a.beton", "--data.val=b.beton"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("deit-fast train: ")
    assert "RANK" in line


def _start(store: Store, world_size: int) -> list[Store]:
    """The parts of all ranks of a start, the last rank first to come."""
    with ThreadPoolExecutor(world_size) as pool:
        parts = [pool.submit(new_part_of, store, rank, world_size) for rank in reversed(range(world_size))]
        return [part.result(20) for part in reversed(parts)]


@pytest.mark.parametrize("world_size", [2, 5])
def test_every_start_has_a_part_of_its_own(world_size: int) -> None:
    store = HashStore()
    for _ in range(3):
        parts = _start(store, world_size)
        assert not any(part.check(["address of 0"]) for part in parts)
        parts[0].set("address of 0", "here")
        assert all(part.get("address of 0") == b"here" for part in parts)


def test_a_start_that_nobody_finished_is_passed_over() -> None:
    store = HashStore()
    for dead in (0, 1):
        with pytest.raises(TimeoutError, match="waited for"):
            new_part_of(store, dead, 3, timedelta(seconds=0.05))
    first, second, third = _start(store, 3)
    first.set("key", "value")
    assert second.get("key") == third.get("key") == b"value"


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
    os.environ.pop("{GLOO_INTERFACE}", None)
    if interface:
        os.environ["{GLOO_INTERFACE}"] = interface
    try:
        with joined_world("cpu") as world:
            print(world.gather(os.environ.get("{GLOO_INTERFACE}")), flush=True)
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
    assert f"by {GLOO_INTERFACE}=lo; want {GLOO_INTERFACE} set on each node" in said


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
    monkeypatch.setattr(rendezvous, "_address_of_host", lambda: changes.get("own", "127.0.1.1"))
    monkeypatch.setattr(rendezvous, "_interfaces", lambda: changes.get("cards", {"10.9.0.1": "card"}))
    monkeypatch.setattr(rendezvous, "_own_address_towards", {"10.9.0.1": "10.9.0.1"}.get)
    monkeypatch.setenv("MASTER_ADDR", "127.0.1.1")
    monkeypatch.setenv(GLOO_INTERFACE, changes.get("set", ""))  # and is as it was after the test
    if "set" not in changes:
        monkeypatch.delenv(GLOO_INTERFACE)
    store = HashStore()
    store.set("master of 1", "10.9.0.1")  # as the other node knows this one
    choose_interface(store, changes.get("launch", Launch(0, 2, 0, 1)), timedelta(seconds=5))
    assert os.environ.get(GLOO_INTERFACE) == wanted
