from __future__ import annotations

import errno
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.config import UserError
from deit_fast.record.log import EventLog, as_json, read_events


def strict(line: str) -> object:
    """Parses JSON without Python's additions NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def names(path: Path) -> list[str]:
    return [event["event"] for event in read_events(path)]


def test_events_come_back_with_their_time(tmp_path: Path) -> None:
    before = time.time()
    with EventLog(tmp_path / "log.jsonl") as log:
        log.write("step", epoch=0, loss=2.5, path=tmp_path / "a", text='ein "Wort"\nmehr')
        (event,) = read_events(tmp_path / "log.jsonl")  # before the log is closed
    assert before <= event.pop("time") <= time.time()
    path = str(tmp_path / "a")
    assert event == {"event": "step", "epoch": 0, "loss": 2.5, "path": path, "text": 'ein "Wort"\nmehr'}


def test_every_line_is_json_also_with_numbers_that_are_not_finite(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log.jsonl") as log:
        log.write("step", loss=float("nan"), lr=float("inf"), seconds={"compute": [-float("inf"), 1]})
        log.write("step", loss=np.float32("nan"), lr=np.float32(0.5), step=np.int64(7), best=np.bool_(True))
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert all(isinstance(strict(line), dict) for line in lines)
    first, second = read_events(tmp_path / "log.jsonl")
    assert (first["loss"], first["lr"], first["seconds"]) == (None, None, {"compute": [None, 1]})
    assert (second["loss"], second["lr"], second["step"], second["best"]) == (None, 0.5, 7, True)


def test_what_has_no_form_in_json_is_refused_and_leaves_no_line(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log.jsonl") as log:
        log.write("start")
        with pytest.raises(TypeError, match="object"):
            log.write("step", loss=object())
    assert names(tmp_path / "log.jsonl") == ["start"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(values)
def test_any_plain_value_becomes_strict_json(value: object) -> None:
    plain = as_json(value)
    assert strict(json.dumps(plain)) == plain


def test_log_of_a_killed_process_is_read_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    program = f"""
from deit_fast.record.log import EventLog
log = EventLog({str(path)!r})
for step in range(10**9):
    log.write("step", step=step)
    if step == 100:
        print("written", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    steps = [event["step"] for event in read_events(path)]
    assert len(steps) > 100
    assert steps == list(range(len(steps)))
    with EventLog(path) as log:
        log.write("start", epoch=1)
    assert names(path) == ["step"] * len(steps) + ["start"]


FULL = """
import resource, signal, sys
from deit_fast.record.log import EventLog

def allow(num_bytes):  # of any file; what would go beyond is cut, then refused
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))

log = EventLog(sys.argv[1])
log.write("start")
size = log.path.stat().st_size
allow(size + 70)  # one step of 50 to 60 bytes, and a piece of the next
for step in range(5):
    log.write("step", step=step)
lines = log.path.read_bytes()
assert lines.endswith(b"\\n") and lines.count(b"\\n") == 2, lines
if sys.argv[2] == "mended":
    allow(resource.RLIM_INFINITY)
    log.write("epoch")
    log.write("eval")
    allow(log.path.stat().st_size)
    log.write("end")
    allow(resource.RLIM_INFINITY)
elif sys.argv[2] == "mended at the end":
    allow(resource.RLIM_INFINITY)
log.close()
log.close()
"""


@pytest.mark.parametrize(
    ("then", "wanted", "said"),
    [
        ("mended", ["start", *["step"] * 5, "epoch", "eval", "end"], ["wait in memory"] * 2),
        ("mended at the end", ["start", *["step"] * 5], ["wait in memory"]),
        ("stays full", ["start", "step"], ["wait in memory", "its last 4 event(s) are lost"]),
    ],
)
def test_full_disk_costs_no_event_while_the_run_lives(tmp_path: Path, then: str, wanted: list[str], said: list[str]) -> None:
    path = tmp_path / "log.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path), then], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names(path) == wanted
    assert path.read_bytes().endswith(b"\n")
    steps = [event["step"] for event in read_events(path) if event["event"] == "step"]
    assert steps == list(range(len(steps)))
    lines = done.stderr.splitlines()
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert line.startswith(f"deit-fast: {path}: cannot be written (File too large); ")
        assert part in line


def test_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        EventLog(tmp_path)


@pytest.mark.parametrize("kept", [1, 10, 20, "all but the newline"])
def test_log_cut_anywhere_in_its_last_line(tmp_path: Path, kept: int | str) -> None:
    path = tmp_path / "log.jsonl"
    with EventLog(path) as log:
        log.write("start")
        whole = path.stat().st_size
        log.write("step", text="größer")
    content = path.read_bytes()
    path.write_bytes(content[: whole + kept] if isinstance(kept, int) else content[:-1])
    expected = ["start"] if isinstance(kept, int) else ["start", "step"]
    assert names(path) == expected
    with EventLog(path) as log:
        log.write("epoch")
    assert names(path) == [*expected, "epoch"]
    assert all(isinstance(strict(line), dict) for line in path.read_text().splitlines())


@pytest.mark.parametrize("broken", ['{"event": "st', "7", '{"no": "event"}', "\x00\x00"])
def test_broken_line_is_named(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"event": "start"}}\n{broken}\n{{"event": "end"}}\n')
    with pytest.raises(UserError, match=r"log\.jsonl: line 2 is broken"):
        read_events(path)


def test_missing_log_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: no log"):
        read_events(tmp_path / "none.jsonl")


def test_full_disk_that_nobody_can_be_told_of_costs_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(log: EventLog, line: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with EventLog(tmp_path / "log.jsonl") as log:
        with monkeypatch.context() as patch, io.StringIO() as closed:
            closed.close()
            patch.setattr(EventLog, "_append", no_room)
            patch.setattr(sys, "stderr", closed)
            log.write("start")
        log.write("step")
    assert [event["event"] for event in read_events(tmp_path / "log.jsonl")] == ["start", "step"]
