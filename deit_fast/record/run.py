"""Creates the folder of a run, and records there configuration, command, machine, log and result."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import psutil

from deit_fast.config import RunConfig, UserError, as_now
from deit_fast.cores import num_cores
from deit_fast.record.log import EventLog, as_json
from deit_fast.record.tensorboard import FOLDER as TENSORBOARD
from deit_fast.record.tensorboard import TensorBoard, check_tensorboard

FORMAT = 1
_VECTORS = ("sse4", "avx", "amx", "neon", "sve")
PACKAGES = ("deit_fast", "torch", "torchvision", "timm", "ffcv", "numba", "numpy", "Pillow")


@dataclass(frozen=True)
class RunRecord:
    """The open record of a run. remarks: lines about differences between this session and the first one."""

    folder: Path
    log: EventLog
    checkpoints: Path
    tensorboard: TensorBoard | None = None
    num_sessions: int = 1
    remarks: tuple[str, ...] = ()

    def write(self, event: str, **fields: Any) -> None:
        """Writes an event to the log and, if enabled, to TensorBoard."""
        self.log.write(event, **fields)
        if self.tensorboard is not None:
            self.tensorboard.write(event, **fields)

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes summary.json, the result of a finished run."""
        write_json(self.folder / "summary.json", summary)

    def close(self) -> None:
        """Closes the log and TensorBoard's files."""
        self.log.close()
        if self.tensorboard is not None:
            self.tensorboard.close()

    def __enter__(self) -> RunRecord:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def open_run(folder: Path | str, config: RunConfig, command: list[str], resume: bool) -> RunRecord:
    """Makes the folder of a run and writes run.json, or adds a session to the run that is there. For one rank only.

    run.json keeps the configuration, versions, hardware and commit of the first session. Each later session lists under
    `changes` what differs from them, by dotted name. With `resume` and no run in the folder, the run starts anew.

    Raises UserError for a folder that holds a run when `resume` is off, in which another process runs, that cannot be
    written, or whose run.json is broken; and where config.run.tensorboard is on and TensorBoard is not installed.
    """
    if config.run.tensorboard:
        check_tensorboard()
    folder = Path(folder)
    path = folder / "run.json"
    if path.exists() and not resume:
        raise UserError(f"run.dir={folder}: holds a run; go on with it by --train.resume, or choose another --run.dir")
    facts = as_json({"config": config.as_dict(), "versions": versions(), "hardware": hardware(), "git_commit": git_commit()})
    session: dict[str, Any] = {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    remarks: tuple[str, ...] = ()
    if path.exists():
        run = read_run(folder)
        remarks = _other_versions(run.get("versions") or {}, facts["versions"])
        changes = _changes({name: run.get(name) for name in facts}, facts)
        run["sessions"].append({**session, "changes": changes})
    else:
        name = folder.absolute().name
        run = {"format": FORMAT, "name": name, "command": command, **facts, "sessions": [session]}
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        log = EventLog(folder / "log.jsonl")
        write_json(path, run)
    except BlockingIOError:
        raise UserError(f"run.dir={folder}: another process is running in it; wait for its end, or choose another") from None
    except OSError as error:
        raise UserError(f"run.dir={folder}: cannot be written ({error.strerror}); choose another --run.dir") from None
    tensorboard = TensorBoard(folder / TENSORBOARD) if config.run.tensorboard else None
    return RunRecord(folder, log, folder / "checkpoints", tensorboard, len(run["sessions"]), remarks)


def read_run(folder: Path | str) -> dict[str, Any]:
    """Reads run.json in a run's folder. Raises UserError if there is no run, or one of another format."""
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise UserError(f"{folder}: not the folder of a run: it holds no run.json")
    run = read_json(path)
    if run.get("format") != FORMAT or not isinstance(run.get("sessions"), list):
        raise UserError(f"{path}: not a run of format {FORMAT}, which this version of deit_fast reads")
    return {**run, "config": as_now(run["config"])} if "config" in run else run


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError where there is none."""
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path}: broken: want a JSON object")
    return value


def write_json(path: Path | str, value: Any) -> None:
    """Writes a JSON file as `write_bytes` does."""
    text = json.dumps(as_json(value), indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, text.encode() + b"\n")


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes a file atomically: whoever reads it finds the former content or all of the new one."""
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
    """Opens a file that replaces `path` when the block ends, complete and on the disk; if the block raises, `path` stays."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide what a run computes; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores of the machine and those that this process may use, bytes of memory, and each CUDA device.

    cpu: the name it gives itself, often that of a whole family on virtual machines, and the architecture that LLVM finds behind
    it. cpu_vectors: the sets of vector instructions that it has, by LLVM's names.
    """
    import llvmlite.binding  # 0.05 s, which most commands need not wait for

    features = llvmlite.binding.get_host_cpu_features()
    return {
        "cpu": f"{_cpu_model()} ({llvmlite.binding.get_host_cpu_name()})",
        "cpu_vectors": sorted(name for name, has in features.items() if has and name.startswith(_VECTORS)),
        "logical_cores": os.cpu_count(),
        "allowed_cores": num_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
    }


def git_commit(folder: Path | str = Path(__file__).parent) -> str | None:
    """Commit of the git checkout that `folder` lies in, with "+changes" where it was changed since; None outside git.

    A changed file that git tracks counts, and a new one in `folder`. A folder in which git tracks nothing, such as a
    package that is installed inside someone's checkout, has no commit.
    """

    def git(*arguments: str) -> str:
        # git's own variables, set where a hook started us, would name another checkout
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        if not git("ls-files", "."):
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        changed = changed or git("ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "+changes" if changed else commit


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[dict[str, Any]]:
    try:
        import torch
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"name": device.name, "memory_bytes": device.total_memory} for device in devices]


def _other_versions(began: dict[str, str | None], now: dict[str, str | None]) -> tuple[str, ...]:
    """A line about package versions that differ from those at the start of the run; none if all are equal."""
    others = [f"{name} {began[name]}, now {now[name]}" for name in began if name in now and began[name] != now[name]]
    return (f"the run began with other versions, which decide what it computes: {'; '.join(others)}",) if others else ()


def _changes(old: Any, new: Any, name: str = "") -> dict[str, Any]:
    """New values by dotted name where two nested dictionaries differ; None for what is gone."""
    if old == new:
        return {}
    if not isinstance(old, dict) or not isinstance(new, dict):
        return {name: new}
    changes: dict[str, Any] = {}
    for key in {**old, **new}:
        changes |= _changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    return changes
