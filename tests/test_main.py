"""`python -m deit_fast`: exit statuses, one-line errors, `--out`."""

from __future__ import annotations

import dataclasses
import errno
import json
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deit_fast import __main__ as command_line
from deit_fast import __version__
from deit_fast.cli import help_text, overview, read_call
from deit_fast.commands import COMMANDS, Call, Command
from deit_fast.config import UserError

OPTION = {
    "write": "write.out=a",
    "inspect": "inspect.beton=a",
    "verify": "verify.beton=a",
    "train": "data.val=a",
    "teach": "teach.out=a",
    "eval": "data.val=a",
    "bench": "data.val=a",
    "views": "views.html=a.html",
    "demo": "demo.dir=a",
}
Work = Callable[[Call], dict[str, Any]]


@pytest.fixture
def set_work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], None]:
    """Replaces what the command `demo` calls by a function."""
    demo = COMMANDS["demo"]
    assert isinstance(demo, Command)
    return lambda work: monkeypatch.setitem(COMMANDS, "demo", dataclasses.replace(demo, run=work))


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def raising(error: BaseException) -> Work:
    def work(call: Call) -> dict[str, Any]:
        raise error

    return work


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = command_line.main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.mark.parametrize(("words", "text"), [(["--help"], overview()), (["-h"], overview())])
def test_help_and_version(capsys: pytest.CaptureFixture[str], words: Sequence[str], text: str) -> None:
    assert run(capsys, *words) == (0, f"{text}\n", "")
    assert run(capsys, "--version") == (0, f"deit-fast {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--no.such=1", "--help"]])
def test_help_of_a_command(capsys: pytest.CaptureFixture[str], command: str, words: list[str]) -> None:
    assert run(capsys, command, *words) == (0, f"{help_text(command)}\n", "")
    assert run(capsys, command, "--help=all") == (0, f"{help_text(command, everything=True)}\n", "")


def test_no_command_prints_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys) == (2, "", f"{overview()}\n")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "trian")
    assert (status, out) == (2, "")
    assert err == (f"deit-fast trian: unknown command trian: want one of {', '.join(COMMANDS)}; nearest: train\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("data.train is not set"), 2, "data.train is not set"),
        (UserError("two\nlines"), 2, "two lines"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.beton"), 2, "No such file: a.beton"),
        (PermissionError(errno.EACCES, "Not allowed", "a", None, "b"), 2, "Not allowed: a -> b"),
        (OSError(errno.ENOSPC, "No space left"), 2, f"[Errno {errno.ENOSPC}] No space left"),
        (OSError("told otherwise"), 2, "told otherwise"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    capsys: pytest.CaptureFixture[str], set_work: Any, error: BaseException, status: int, line: str
) -> None:
    set_work(raising(error))
    assert run(capsys, "demo") == (status, "", f"deit-fast demo: {line}\n")


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug")])
def test_a_bug_keeps_its_traceback(set_work: Any, error: Exception) -> None:
    set_work(raising(error))
    with pytest.raises(type(error), match="a bug"):
        command_line.main(["demo"])


@pytest.mark.parametrize(("rank", "printed"), [("0", True), ("1", False), ("8", True), ("13", False)])
def test_only_the_first_rank_of_a_node_complains(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, set_work: Any, rank: str, printed: bool
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", str(int(rank) % 8))
    set_work(raising(UserError("once")))
    status, _, err = run(capsys, "demo")
    assert status == 2
    assert (err == "deit-fast demo: once\n") is printed


def test_out_receives_the_result(tmp_path: Path, set_work: Any) -> None:
    seen: list[Any] = []

    def work(call: Call) -> dict[str, Any]:
        seen.append((call.config.demo.dir, call.words))
        return {"top1": 0.5, "loss": float("nan")}

    set_work(work)
    out = tmp_path / "result.json"
    out.write_text("an earlier result")
    words = ["demo", "--demo.dir=here", f"--out={out}"]
    assert command_line.main(words) == 0
    assert seen == [("here", words)]
    assert json.loads(out.read_text()) == {"top1": 0.5, "loss": None}
    assert names(tmp_path) == ["result.json"]


def test_only_the_first_rank_writes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_work: Any) -> None:
    monkeypatch.setenv("RANK", "1")
    set_work(lambda call: {})
    assert command_line.main(["demo", f"--out={tmp_path / 'result.json'}"]) == 0
    assert names(tmp_path) == []


def test_a_failed_command_leaves_the_earlier_result(tmp_path: Path, set_work: Any) -> None:
    out = tmp_path / "result.json"
    out.write_text("an earlier result")
    set_work(raising(UserError("no")))
    assert command_line.main(["demo", f"--out={out}"]) == 2
    assert out.read_text() == "an earlier result"
    assert names(tmp_path) == ["result.json"]


def test_a_result_that_finds_no_room_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, set_work: Any
) -> None:
    def no_room(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command_line, "write_bytes", no_room)
    set_work(lambda call: {})
    out = f"--out={tmp_path / 'result.json'}"
    assert run(capsys, "demo", out) == (2, "", f"deit-fast demo: {out}: could not be written: No space left on device\n")


def test_a_result_that_is_not_json_leaves_nothing(tmp_path: Path, set_work: Any) -> None:
    set_work(lambda call: {"result": object()})
    with pytest.raises(TypeError, match="no form in JSON"):
        command_line.main(["demo", f"--out={tmp_path / 'result.json'}"])
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("missing/result.json", "missing is not a folder: make it first, or choose another"),
        ("folder", "is not a file: want a file name"),
        (f"{'x' * 250}.json", "cannot be written: File name too long"),
    ],
)
def test_an_out_that_cannot_be_written_is_found_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], set_work: Any, out: str, message: str
) -> None:
    set_work(raising(AssertionError("the work began")))
    (tmp_path / "folder").mkdir()
    status, _, err = run(capsys, "demo", f"--out={tmp_path / out}")
    assert status == 2
    assert err.startswith(f"deit-fast demo: --out={tmp_path / out}: ")
    assert err.endswith(f"{message}\n")
    assert names(tmp_path) == ["folder"]


def test_an_out_that_is_a_device_is_refused(capsys: pytest.CaptureFixture[str], set_work: Any) -> None:
    set_work(raising(AssertionError("the work began")))
    assert run(capsys, "demo", "--out=/dev/null") == (
        2, "", "deit-fast demo: --out=/dev/null: is not a file: want a file name\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "module", "function", "wanted"),
    [
        ("write", "data.convert.write", "write_beton", lambda call: (call.config.source, call.config.write)),
        ("inspect", "data.examine.inspect", "inspect_beton", lambda call: (call.config.inspect,)),
        ("verify", "data.examine.verify", "verify_beton", lambda call: (call.config.verify,)),
        ("merge a b", "data.regroup.merge", "merge_betons", lambda call: (call.config.merge,)),
        ("split a", "data.regroup.split", "split_betons", lambda call: (call.config.split,)),
        ("subset a", "data.regroup.subset", "subset_betons", lambda call: (call.config.subset,)),
        ("filter a", "data.regroup.filter", "filter_betons", lambda call: (call.config.filter,)),
        ("train", "plan.training", "train", lambda call: (call.config, ["deit-fast", *call.words])),
        ("teach", "teach", "teach", lambda call: (call.config,)),
        ("plan --plan.gpus=2", "plan.plan", "plan", lambda call: (call.config,)),
        ("eval", "train.evaluate", "evaluate_checkpoint", lambda call: (call.config,)),
        ("export a.pt", "export.export", "export_model", lambda call: (call.config,)),
        ("predict a.pt b.jpg", "predict.predict", "predict_images", lambda call: (call.config,)),
        ("bench", "benchmarks.bench", "bench", lambda call: (call.config,)),
        ("bench step", "benchmarks.step", "bench_step", lambda call: (call.config,)),
        ("bench gpu", "benchmarks.gpu.bench", "bench_gpu", lambda call: (call.config,)),
        ("bench eval", "benchmarks.eval", "bench_eval", lambda call: (call.config,)),
        ("bench write", "benchmarks.write", "bench_write", lambda call: (call.config,)),
        ("bench loader", "benchmarks.loader", "bench_loader", lambda call: (call.config,)),
        ("bench fidelity", "benchmarks.fidelity.bench", "bench_fidelity", lambda call: (call.config,)),
        ("sweep a.yaml", "sweep", "sweep", lambda call: (call.config, call.words[1:], call.given)),
        ("report run", "report", "write_report", lambda call: (call.config.report,)),
        ("views", "looking.views", "show_views", lambda call: (call.config,)),
        ("analyse run", "looking.analysis", "analyse", lambda call: (call.config,)),
        ("demo", "demo", "demo", lambda call: (call.config.demo,)),
    ],
)
def test_each_command_calls_its_function(
    monkeypatch: pytest.MonkeyPatch, command: str, module: str, function: str, wanted: Any
) -> None:
    calls: list[Any] = []
    stand_in = types.ModuleType(f"deit_fast.{module}")

    def record(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        return {}

    setattr(stand_in, function, record)
    monkeypatch.setitem(sys.modules, f"deit_fast.{module}", stand_in)
    words = command.split() if " " in command else [command, f"--{OPTION[command]}"]
    assert command_line.main(words) == 0
    assert calls == [wanted(read_call(words))]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["report", "missing"], "missing"),
        (["report"], "report.runs"),
    ],
)
def test_bad_input_of_a_real_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *words)
    assert status == 2
    assert err.startswith(f"deit-fast {words[0]}: ")
    assert err.count("\n") == 1
    assert part in err
    assert names(tmp_path) == []


def test_help_in_a_process_does_not_import_torch() -> None:
    code = (
        "import sys; from deit_fast.__main__ import main; status = main(['train', '--help']);"
        "heavy = {'torch', 'numba', 'ffcv', 'timm', 'numpy'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout == f"{help_text('train')}\n"


def test_a_process_exits_with_the_status() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deit_fast", "train", "--train.epoch=3"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "deit-fast train: command line: unknown option --train.epoch; nearest: train.epochs\n"
