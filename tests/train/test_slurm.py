"""Jobs of training runs: what is asked of SLURM, what a node starts, and that an interrupted job goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deit_fast.__main__ import main
from deit_fast.cli import parse
from deit_fast.config import UserError
from deit_fast.train import slurm
from tests.tiny_runs import events_of

SLOW = pytest.mark.slow
BETONS = ["--data.train=train.beton", "--data.val=val.beton"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that look like SLURM's: sbatch keeps the file that it gets, as job 4711."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in (("sbatch", f'cp "$1" {tmp_path}/submitted; echo Submitted batch job 4711'), ("srun", "exit 1")):
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    return tmp_path


def test_what_is_asked_of_slurm(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cluster / "runs" / "small"
    words = ["train", *BETONS, f"--run.dir={folder}", "--slurm.nodes=2", "--slurm.partition", "fast", "--slurm.hours=1.5"]
    words += ["--slurm.memory_gb=500", "--slurm.account=me", "--slurm.signal_seconds=300", f"--out={cluster / 'job.json'}"]
    assert main(words) == 0
    lines = (cluster / "submitted").read_text().splitlines()
    options = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    wanted = {
        "job-name=small", "nodes=2", "ntasks-per-node=1", "gpus-per-node=8", "cpus-per-task=96", "mem=500GB", "time=90",
        "partition=fast", "account=me", "signal=USR2@300", "requeue",
    }  # fmt: skip
    assert wanted <= options
    assert not [option for option in options if option.startswith(("qos", "constraint"))]
    (srun,) = [line for line in lines if line.startswith("srun")]
    assert "--cpus-per-task=96" in srun
    job = json.loads((cluster / "job.json").read_text())
    log = str(folder / "slurm" / "4711_0_log.out")
    assert job == {"job": "4711", "cluster": "slurm", "dir": str(folder), "log": log}
    assert capsys.readouterr().out == f"job 4711 submitted: 2 node(s) of 8 GPU(s), for {folder}; log: {log}\n"
    assert not (folder / "run.json").exists()  # the job makes it


def test_job_without_gpus(cluster: Path) -> None:
    words = [*BETONS, f"--run.dir={cluster / 'run'}", "--slurm.nodes=1", "--slurm.gpus_per_node=0", "--slurm.cpus_per_gpu=3"]
    slurm.submit(parse("train", words), words)
    text = (cluster / "submitted").read_text()
    assert "cpus-per-task=3\n" in text
    assert "--gpus" not in text
    assert "--mem=" not in text


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ([], []),
        (["--slurm.nodes=2", "--a.b=c"], ["--a.b=c"]),
        (["--slurm.nodes", "2", "--a.b", "c"], ["--a.b", "c"]),
        (["--config-file", "a.yaml", "--out", "x.json"], ["--config-file", "a.yaml"]),
        (["--train.resume", "--out=x.json", "--run.dir=/slurm.d"], ["--run.dir=/slurm.d"]),
        (["--train.resume", "no", "--slurm.qos="], []),
    ],
)
def test_ranks_train_with_the_same_words(words: list[str], kept: list[str]) -> None:
    assert slurm.words_of_job(words) == [*kept, "--train.resume", "--slurm.nodes=off"]


def test_ranks_of_a_job_asked_for_in_a_file_do_not_submit_another(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_text("slurm: {nodes: 4}\nrun: {dir: runs/big}\n")
    words = ["--config-file", str(file), "--train.epochs=7"]
    asked, ranks = parse("train", words), parse("train", slurm.words_of_job(words))
    assert (asked.slurm.nodes, ranks.slurm.nodes) == (4, None)
    assert ranks.train.resume
    assert (ranks.run, ranks.train.epochs) == (asked.run, 7)


def test_torchrun_of_each_node_meets_on_the_first() -> None:
    nodes: list[dict[str, Any]] = []
    for node in (0, 1):
        command = slurm.torchrun_command(
            ["--a=b"], num_nodes=2, node=node, first_host="n17", job_id="123456", ranks_per_node=8, max_restarts=3
        )
        assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
        end = command.index("-m", 3)
        assert command[end:] == ["-m", "deit_fast", "train", "--a=b"]
        nodes.append(dict(word.split("=", 1) for word in command[3:end]))
    assert nodes[0] == {
        "--nnodes": "2", "--nproc-per-node": "8", "--max-restarts": "3", "--rdzv-id": "123456", "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "n17:23456", "--rdzv-conf": "is_host=True",
    }  # fmt: skip
    assert nodes[1] == nodes[0] | {"--rdzv-conf": "is_host=False"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run.dir=auto"], "run.dir is not set"),
        (["--run.dir=run", "--slurm.nodes=2", "--slurm.cluster=local"], "slurm.cluster=local has one node"),
        (["--run.dir=run", "--slurm.hours=0.01"], "slurm.signal_seconds=120: want less than slurm.hours"),
        (["--run.dir=run", "--data.val="], "data.val is not set"),
        (["--run.dir=run"], "no sbatch and srun on this machine"),
        (["--run.dir=old"], "run.dir=old: holds a run; go on with it by --train.resume"),
    ],
)
def test_what_cannot_run_is_refused_before_the_queue(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text("{}")
    given = {word.split("=")[0]: word for word in [*BETONS, "--slurm.nodes=1", *words]}
    assert main(["train", *given.values()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


def test_refusal_of_slurm_is_one_line(cluster: Path) -> None:
    (cluster / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: fast' >&2\nexit 1\n")
    words = [*BETONS, f"--run.dir={cluster / 'run'}", "--slurm.nodes=1"]
    with pytest.raises(UserError, match=r"the job was refused: .*invalid partition") as caught:
        slurm.submit(parse("train", words), words)
    assert "\n" not in str(caught.value)


def test_without_submitit_a_job_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    words = [*BETONS, f"--run.dir={tmp_path / 'run'}", "--slurm.nodes=1"]
    with pytest.raises(UserError, match="pip install submitit"):
        slurm.submit(parse("train", words), words)


RANK = """
import os, signal, sys, time
os.write(1, f"rank {os.environ['RANK']} starts\\n".encode())  # at once: two ranks write to one pipe
time.sleep(2)  # here a notice finds no handler
notices = []
signal.signal(signal.SIGUSR1, lambda *_: notices.append(1))
open(f"{sys.argv[1]}/ready{os.environ['RANK']}", "w").close()
while not notices:
    time.sleep(0.05)
open(f"{sys.argv[1]}/checkpoint{os.environ['RANK']}", "w").close()
"""
TASK = """
import signal, sys
from deit_fast.train import slurm

program, folder = sys.argv[1:]
command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
training = slurm.Training((), 1, 2, 3, patience_seconds=60)
training.command = lambda: [*command, program, folder]
signal.signal(signal.SIGUSR2, lambda *_: (training.checkpoint(), sys.exit(7)))
print(training(), flush=True)
"""


@SLOW
@pytest.mark.parametrize(
    ("notice", "when", "status"),
    [(signal.SIGUSR2, "starts", 7), (signal.SIGUSR2, "ready", 7), (signal.SIGTERM, "ready", 0)],
)
def test_notice_ends_every_rank_with_a_checkpoint_and_status_0(
    tmp_path: Path, notice: signal.Signals, when: str, status: int
) -> None:
    program = tmp_path / "rank.py"
    program.write_text(RANK)
    with subprocess.Popen(
        [sys.executable, "-c", TASK, str(program), str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as task:  # fmt: skip
        assert task.stdout is not None
        lines: list[str] = []
        while not any(line.startswith("rank") for line in lines):
            lines.append(task.stdout.readline())
            assert lines[-1], lines
        while when == "ready" and not list(tmp_path.glob("ready?")):
            time.sleep(0.05)
        task.send_signal(notice)
        rest = task.stdout.read()  # not communicate(), which loses what readline() has read ahead
        task.wait(timeout=60)
    assert task.returncode == status, [*lines, rest]
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == ["checkpoint0", "checkpoint1"]
    assert "ranks are killed" not in rest
    assert "rank 0 starts" in "".join(lines) + rest
    assert ("".join(lines) + rest).count("rank 0 starts") == 1  # not restarted


@pytest.mark.long
@SLOW
def test_interrupted_job_is_requeued_and_comes_to_its_end(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [
        f"--data.train={digits / 'train.beton'}", f"--data.val={digits / 'val.beton'}", f"--run.dir={folder}",
        "--data.batch_size=64", "--data.resolution=32", "--data.num_workers=1", "--augment.flip=0",
        "--model.name=deit_tiny_patch16_224", "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2",
        "--train.ema_decay=0.9", "--schedule.warmup_epochs=1", "--train.device=cpu", "--train.epochs=8",
        "--slurm.nodes=1", "--slurm.cluster=local", "--slurm.gpus_per_node=0", "--slurm.signal_seconds=60",
    ]  # fmt: skip
    job = slurm.submit(parse("train", words), words)
    controller = psutil.Process(int(job["job"]))
    try:
        _wait_for(lambda: events_of(folder, "checkpoint"), job)
        (task,) = controller.children()
        task.send_signal(signal.SIGUSR2)  # as SLURM does it
        _wait_for(lambda: len(events_of(folder, "start")) == 2, job)
        assert not events_of(folder, "end")
        _wait_for(lambda: (folder / "summary.json").exists(), job)
        controller.wait(60)
    finally:
        for process in [controller, *controller.children(recursive=True)] if controller.is_running() else []:
            process.kill()
    epochs = [event["epoch"] for event in events_of(folder, "epoch")]
    assert sorted(set(epochs)) == list(range(8))
    second_start = events_of(folder, "start")[1]
    (stopped,) = events_of(folder, "stopped")
    assert stopped["reason"] == "SIGUSR1"
    assert (second_start["epoch"], second_start["step"]) == (stopped["epoch"], stopped["step"])
    log = Path(job["log"]).read_text()
    assert "Requeued job" in log
    assert "ranks are killed" not in log
    assert log.count("Job completed successfully") == 1


def _wait_for(is_so: Callable[[], Any], job: dict[str, Any]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(Path(job["log"]).read_text())
        time.sleep(0.1)
