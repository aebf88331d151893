"""What tests of sweeps share: a stand-in for `python -m deit_fast train`, and sweeps in this process or in one of their own.

The stand-in takes milliseconds. What it does with a point is said by the point's train.seed: BAD_INPUT and so on; any other
seed is a run of so many milliseconds, to its end, which also comes where a file `go` lies in the folder of the run. It notes
its starts and ends there. A run with a target reaches it after 10 seconds and one epoch for each millisecond, if that is an
even number of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from deit_fast.cli import read_call
from deit_fast.record.log import read_events
from deit_fast.sweep import sweep

BAD_INPUT, BUG, OUT_OF_MEMORY, NO_RESULT, SILENT, ENDLESS, DEAF = range(100_001, 100_008)

TRAINER = f"""#!{sys.executable} -IS
import fcntl, json, os, re, signal, sys, time
words = dict(word.split("=", 1) for word in sys.argv if "=" in word)
config = open(words["--config-file"]).read()
seed = int((re.findall('"seed": ([0-9]+)', config) or [0])[0])
until = re.findall('"until": "top1=([0-9.]+)"', config)
folder = words["--run.dir"]
os.makedirs(folder, exist_ok=True)
def note(name, *values):
    with open(f"{{folder}}/{{name}}", "a") as file:
        file.write(" ".join(map(str, values)) + "\\n")
lock = open(f"{{folder}}/lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    note("overlaps", os.getpid())
if os.path.exists(f"{{folder}}/summary.json"):
    note("again", os.getpid())
stop = []
signal.signal(signal.SIGTERM, lambda *_: seed == {DEAF} or stop.append(1))
note("starts", os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "-"), ",".join(map(str, sorted(os.sched_getaffinity(0)))))
print("seed", seed)
if seed == {BAD_INPUT}:
    print("deit-fast train: bad  input\\n\\nremark of a library", file=sys.stderr)
    sys.exit(2)
if seed == {BUG}:
    raise RuntimeError("boom")
if seed == {OUT_OF_MEMORY}:
    os.kill(os.getpid(), signal.SIGKILL)
if seed == {SILENT}:
    os._exit(3)
if seed == {NO_RESULT}:
    sys.exit(0)
end = time.monotonic() + (3600 if seed > 100_000 else seed / 1000)
while time.monotonic() < end and not os.path.exists(f"{{folder}}/go"):
    if stop:
        note("checkpoints", os.getpid())
        sys.exit(0)
    time.sleep(0.005)
note("ends", os.getpid())
summary = {{"best_top1": 12.5, "wall_seconds": seed / 1000}}
if until:
    reached = {{"epochs": seed, "seconds": 10 * seed, "dollars": None}} if seed % 2 == 0 else {{}}
    summary["target"] = {{"top1": float(until[0]), "is_reached": bool(reached), **reached}}
with open(f"{{folder}}/part", "w") as file:
    json.dump(summary, file)
os.replace(f"{{folder}}/part", f"{{folder}}/summary.json")
"""


def make_trainer(folder: Path) -> str:
    """An executable that stands in for Python where that is to train."""
    path = folder / "trainer"
    path.write_text(TRAINER)
    path.chmod(0o755)
    return str(path)


def make_file(folder: Path, seeds: Sequence[int], more: str = "") -> str:
    """A sweep with a point for each seed."""
    path = folder / "s.yaml"
    path.write_text(f"options: {{data: {{train: a, val: b}}, train.device: cpu}}\ngrid: {{train.seed: {list(seeds)}}}\n{more}")
    return str(path)


def run(file: str, out: Path, *words: str, predict: Any = None) -> dict[str, Any]:
    """`deit-fast sweep` of a file into a folder, in this process; gives its result."""
    words = (file, f"--sweep.dir={out}", *words)
    call = read_call(["sweep", *words])
    return sweep(call.config, words, call.given, predict)


def attempts(out: Path) -> list[tuple[str, str, str]]:
    """Point, status and error of each attempt that a sweep's folder records, in order."""
    events = read_events(out / "points.jsonl")
    assert {event["event"] for event in events} == {"point"}
    return [(event["point"], event["status"], event.get("error", "")) for event in events]


class SweepProcess:
    """`deit-fast sweep *words` in a process of its own, in which the stand-in trains if one is given."""

    def __init__(self, words: Sequence[str], output: Path, trainer: str = "", python: str = "") -> None:
        program = f"import sys; from deit_fast.__main__ import main; sys.executable = {trainer or sys.executable!r}; {python}"
        command = [sys.executable, "-c", f"{program}\nsys.exit(main(['sweep', *sys.argv[1:]]))", *words]
        self._output = output
        with output.open("ab") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def children(self) -> list[psutil.Process]:
        """All that it has started and that is still there."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def wait(self, seconds: float = 240) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def end(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)


def lines(folder: Path, name: str) -> list[list[str]]:
    """What the stand-in noted in a run's folder, words of each line."""
    path = folder / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def alive(process_ids: Sequence[int]) -> list[int]:
    """Those processes that are still there and not just waiting for their status to be read."""
    return [pid for pid in process_ids if _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def wait_for(is_so: Callable[[], object], seconds: float = 60) -> None:
    """Waits until something is so, and fails where it does not come to be."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "did not come to be"
        time.sleep(0.01)


NUM_CORES = len(os.sched_getaffinity(0))
