"""Output that cannot be written: what is dropped, which message says so, and with which status commands end."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from deit_fast.output import DroppingStream, droppable_output, dropped_output, reason_of


def _full() -> Any:
    return Path("/dev/full").open("w")


def _without_reader() -> Any:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def _without_terminal() -> Any:
    master, terminal = os.openpty()
    os.close(master)
    return os.fdopen(terminal, "w")


def _closed() -> Any:
    stream = io.StringIO()
    stream.close()
    return stream


def _ascii() -> Any:
    return io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)


LOST = [
    (_full, "No space left on device"),
    (_without_reader, "Broken pipe"),
    (_without_terminal, "Input/output error"),
    (_closed, "I/O operation on closed file"),
    (_ascii, "'ascii' codec can't encode"),
]


@pytest.mark.parametrize(("make", "reason"), LOST)
def test_nothing_that_is_printed_raises(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], reason: str) -> None:
    streams = make(), make()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with droppable_output():
        print("a line …", flush=True)
        for _ in tqdm(range(3), mininterval=0, ascii=False, desc="…"):
            pass
        with droppable_output():
            print("another", flush=True)
        reasons = {stream: reason_of(error) for stream, error in dropped_output().items()}
    assert sorted(reasons) == ["standard error", "standard output"]
    assert all(text.startswith(reason) for text in reasons.values())
    assert (sys.stdout, sys.stderr) == streams
    assert dropped_output() == {}
    for stream in streams:
        with pytest.raises((OSError, ValueError)):  # it could not be written indeed
            print("…", file=stream, flush=True)


def test_what_can_be_written_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)

    @droppable_output()
    def work() -> None:
        print("result")
        print("remark", file=sys.stderr)
        assert dropped_output() == {}

    work()
    work()
    assert (out.getvalue(), err.getvalue()) == (2 * "result\n", 2 * "remark\n")


def test_a_stream_that_works_again_is_written_again() -> None:
    class Disk(io.StringIO):
        is_full = True

        def write(self, text: str, /) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    disk = Disk()
    stream: Any = DroppingStream(disk)
    print("lost", file=stream)
    disk.is_full = False
    print("kept", file=stream)
    assert disk.getvalue() == "kept\n"
    assert reason_of(stream.error) == "No space left on device"


def test_a_process_without_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with droppable_output():
        print("a line", flush=True)
        print("a line", file=sys.stderr, flush=True)
        assert not sys.stderr.isatty()
        assert dropped_output() == {}
    assert sys.stdout is None


def _run(*words: str, **options: Any) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "deit_fast", *words], stderr=subprocess.PIPE, text=True, check=False, **options
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [["--version"], ["train", "--help"]])
def test_help_that_cannot_be_printed(words: list[str]) -> None:
    with _full() as full:
        status, err = _run(*words, stdout=full)
    assert (status, err) == (
        2,
        f"deit-fast {words[0]}: standard output could not be written in full: No space left on device\n",
    )
    reader, writer = os.pipe()
    os.close(reader)
    assert _run(*words, stdout=writer) == (0, "")
    os.close(writer)


def test_an_interpreter_whose_output_is_lost_ends_as_it_would() -> None:
    """Also where a command ends by SystemExit, as `write` does on SIGTERM."""
    code = (
        "import dataclasses, sys; from deit_fast.__main__ import main; from deit_fast.commands import COMMANDS\n"
        "def end(call):\n"
        "    print('a line'); print('another', file=sys.stderr); sys.exit(143)\n"
        "COMMANDS['demo'] = dataclasses.replace(COMMANDS['demo'], run=end); main(['demo'])"
    )
    with _full() as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "another\n")


def test_standard_files_that_were_closed_are_not_taken_by_others(tmp_path: Path) -> None:
    code = (
        "import os, sys; from deit_fast.__main__ import main; status = main(['--help']);"
        f"file = open({str(tmp_path / 'first')!r}, 'w'); print(status, file.fileno() > 2, file=file)"
    )
    subprocess.run(["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", sys.executable, "-c", code], check=True)
    assert (tmp_path / "first").read_text() == "0 True\n"


@pytest.mark.slow
def test_a_result_that_cannot_be_printed(tmp_path: Path) -> None:
    from tests.data.image_folders import convert, make_images

    convert(make_images(tmp_path / "images"), tmp_path / "a.beton")
    inspect = ["inspect", str(tmp_path / "a.beton")]
    write = ["write", f"--source.path={tmp_path / 'images'}", f"--write.out={tmp_path / 'b.beton'}", "--write.num_workers=1"]
    # one process for the three, of which the last writes to a pipe that nobody reads
    code = (
        "import os, sys; from deit_fast.__main__ import main\n"
        "def status(words, output):\n"
        "    sys.stdout = open(output, 'w'); print(main(words), file=sys.stderr)\n"
        f"status({inspect}, '/dev/full'); status({write}, '/dev/full')\n"
        "reader, writer = os.pipe(); os.close(reader)\n"
        f"status({inspect}, writer); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=True)
    lines = done.stderr.splitlines()
    lost = "standard output could not be written in full: No space left on device"
    assert lines[:2] == [f"deit-fast inspect: {lost}", "2"]
    assert lines[-3:] == [f"deit-fast write: {lost}", "0", "0"]
    assert (tmp_path / "b.beton").read_bytes() == (tmp_path / "a.beton").read_bytes()
