"""Submits a training command as a SLURM job, through submitit and torchrun.

The job has one task on each node, and each task runs torchrun, which starts the node's ranks. Before its time limit, or when
another job is to have its nodes, SLURM sends SIGUSR2 to the tasks. The first node's task then asks its ranks for a last
checkpoint, waits for them, and has the job requeued, where it goes on from that checkpoint.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from deit_fast.config import RunConfig, SlurmConfig, UserError, check_training
from deit_fast.output import droppable_output

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

FOLDER = "slurm"  # in the folder of the run: submitit's files, and what the job prints
_MAX_TIMEOUTS = 1000  # time limits after which submitit gives up; each session goes on where the former one ended
_PORTS = range(20000, 30000)  # of the ranks' meeting point, below those that Linux hands out (from 32768)


def submit(config: RunConfig, words: Sequence[str]) -> dict[str, Any]:
    """`deit-fast train --slurm.nodes=N ...`: submits the run and returns at once.

    words: the command line after `train`. Prints and returns the job's id, the run's folder and the job's log.
    Raises UserError if the run cannot be submitted, also for options that contradict each other.
    """
    slurm = config.slurm
    assert slurm.nodes is not None
    check_job(config)
    executor = make_executor(config)
    training = Training(
        words=tuple(words_of_job(words)),
        num_nodes=slurm.nodes,
        ranks_per_node=max(1, slurm.gpus_per_node),
        max_restarts=slurm.max_restarts,
        patience_seconds=0.75 * slurm.signal_seconds,  # the rest is for requeueing
    )
    from submitit.core.utils import FailedJobError

    try:
        job = executor.submit(training)
    except FailedJobError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"slurm.nodes={slurm.nodes}: the job was refused: {lines[-1] if lines else 'no reason'}") from error
    print(f"job {job.job_id} submitted: {_size(slurm)}, for {config.run.dir}; log: {job.paths.stdout}")
    return {"job": str(job.job_id), "cluster": slurm.cluster, "dir": config.run.dir, "log": str(job.paths.stdout)}


def words_of_job(words: Sequence[str]) -> list[str]:
    """The command line of the job's ranks: the same without --out and slurm's options, with --train.resume.

    A configuration file may set slurm.nodes too, so the command line sets it to off for the ranks.
    """
    kept = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        dropped = name.startswith("--slurm.") or name in ("--out", "--train.resume")
        if not dropped:
            kept.append(word)
        elif not equals and rest and not rest[0].startswith("--"):
            rest.pop(0)  # its value
    return [*kept, "--train.resume", "--slurm.nodes=off"]


def make_executor(config: RunConfig) -> Any:
    """submitit's executor with the job's resources. Raises UserError if the cluster is not available here."""
    try:
        import submitit
    except ImportError:
        raise UserError("slurm.nodes: submitit is not installed; run pip install submitit") from None
    slurm = config.slurm
    if slurm.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise UserError(
            f"slurm.nodes={slurm.nodes}: no sbatch and srun on this machine; submit from a machine of the cluster, or try "
            "slurm.cluster=local"
        )
    cpus = slurm.cpus_per_gpu * max(1, slurm.gpus_per_node)
    executor = submitit.AutoExecutor(
        Path(config.run.dir) / FOLDER,
        cluster=slurm.cluster,
        slurm_max_num_timeout=_MAX_TIMEOUTS,
        local_max_num_timeout=_MAX_TIMEOUTS,
    )
    named = {name: getattr(slurm, name) for name in ("partition", "account", "qos", "constraint")}
    executor.update_parameters(
        name=Path(config.run.dir).name,
        nodes=slurm.nodes,
        tasks_per_node=1,
        gpus_per_node=slurm.gpus_per_node or None,
        cpus_per_task=cpus,
        mem_gb=slurm.memory_gb,
        timeout_min=max(1, round(slurm.hours * 60)),
        stderr_to_stdout=True,
        slurm_signal_delay_s=slurm.signal_seconds,
        # srun of SLURM 22.05 to 23.02 does not take this number over from sbatch and would leave a task one core
        slurm_srun_args=[f"--cpus-per-task={cpus}"],
        slurm_additional_parameters={"requeue": True},  # where the cluster's default is not to
        **{f"slurm_{name}": value for name, value in named.items() if value},
    )
    return executor


@dataclass
class Training:
    """The task of a node, called by submitit: runs torchrun to its end, and has the job requeued before its time limit.

    torchrun ends its ranks itself on SIGTERM, but then kills them after 30 s and fails. So the notice goes to the ranks,
    as SIGUSR1, and torchrun, whose ranks all end with status 0, ends with 0 as well. Both signals are ignored from the
    start of torchrun: a rank that has not come to its first step would die of them, and torchrun would restart it. The
    notice is repeated until the ranks have ended.
    """

    words: tuple[str, ...]
    num_nodes: int
    ranks_per_node: int
    max_restarts: int
    patience_seconds: float  # from the notice until ranks that do not end are killed
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @droppable_output()
    def __call__(self) -> int:
        """Trains. Raises RuntimeError if torchrun fails, which submitit records as the job's failure."""
        command = self.command()
        print(shlex.join(command), flush=True)
        self._process = subprocess.Popen(command, preexec_fn=_ignore_notices)
        is_to_end = False

        def end_soon(*_: Any) -> None:
            nonlocal is_to_end
            is_to_end = True

        # scancel and preemption without notice: submitit would let it pass
        signal.signal(signal.SIGTERM, end_soon)
        while self._process.poll() is None:  # not wait(): checkpoint() comes in between, in this same thread
            if is_to_end:
                self._notify()
            time.sleep(1.0)
        if self._process.returncode != 0:
            raise RuntimeError(f"torchrun ended with status {self._process.returncode}; see the lines above")
        return 0

    @droppable_output()
    def checkpoint(self) -> DelayedSubmission:
        """On SLURM's notice: lets the ranks write a last checkpoint and end; gives the job that continues from it."""
        from submitit.core.utils import DelayedSubmission

        if self._process is not None:
            torchrun = self._process.pid
            deadline = time.monotonic() + self.patience_seconds
            while not _has_ended(torchrun) and time.monotonic() < deadline:
                self._notify()
                time.sleep(1.0)
            if not _has_ended(torchrun):
                print(f"no end within {self.patience_seconds:g} s of the notice: ranks are killed", flush=True)
                kill_all(torchrun)
        fresh = Training(self.words, self.num_nodes, self.ranks_per_node, self.max_restarts, self.patience_seconds)
        return DelayedSubmission(fresh)

    def command(self) -> list[str]:
        """torchrun's command line on this node, in the environment of a submitit job."""
        import submitit

        job = submitit.JobEnvironment()
        return torchrun_command(
            self.words,
            num_nodes=self.num_nodes,
            node=job.node,
            first_host=job.hostnames[0],
            job_id=job.raw_job_id,
            ranks_per_node=self.ranks_per_node,
            max_restarts=self.max_restarts,
        )

    def _notify(self) -> None:
        """Asks the ranks of this node, torchrun's children, for a last checkpoint."""
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for rank in psutil.Process(self._process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    rank.send_signal(signal.SIGUSR1)


def torchrun_command(
    words: Sequence[str],
    *,
    num_nodes: int,
    node: int,
    first_host: str,
    job_id: str,
    ranks_per_node: int,
    max_restarts: int,
) -> list[str]:
    """torchrun's command line on one node of a job: `node` counts from 0; the nodes meet on the first one, first_host."""
    port = _PORTS[int(job_id) % len(_PORTS)]  # the same on all nodes, another for another job
    # on one node any free port will do
    meeting_point = f"{first_host}:{port}" if num_nodes > 1 else "localhost:0"
    return [
        sys.executable, "-m", "torch.distributed.run",
        f"--nnodes={num_nodes}", f"--nproc-per-node={ranks_per_node}", f"--max-restarts={max_restarts}",
        f"--rdzv-id={job_id}", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting_point}",
        f"--rdzv-conf=is_host={node == 0}",  # a node may know itself by another name than SLURM's
        "-m", "deit_fast", "train", *words,
    ]  # fmt: skip


def check_job(config: RunConfig) -> None:
    """Raises UserError for errors that would otherwise appear only in the queue, where nobody sees them."""
    slurm = config.slurm
    assert slurm.nodes is not None
    if not config.run.dir:
        raise UserError(f"slurm.nodes={slurm.nodes}: run.dir is not set: want a folder in which the job can continue")
    if slurm.cluster == "local" and slurm.nodes > 1:
        raise UserError(f"slurm.nodes={slurm.nodes}: slurm.cluster=local has one node: want 1")
    if slurm.signal_seconds >= slurm.hours * 3600:
        raise UserError(
            f"slurm.signal_seconds={slurm.signal_seconds}: want less than slurm.hours={slurm.hours:g}, the time limit"
        )
    if (Path(config.run.dir) / "run.json").exists() and not config.train.resume:
        raise UserError(f"run.dir={config.run.dir}: holds a run; go on with it by --train.resume, or choose another --run.dir")
    check_training(config, slurm.nodes * max(1, slurm.gpus_per_node))


def _size(slurm: SlurmConfig) -> str:
    of = f"{slurm.gpus_per_node} GPU(s)" if slurm.gpus_per_node else "one rank on the CPU"
    return f"{slurm.nodes} node(s) of {of}"


def _ignore_notices() -> None:
    for notice in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(notice, signal.SIG_IGN)


def _has_ended(process_id: int) -> bool:
    """Whether a child of this process has ended; its status can still be collected afterwards."""
    try:
        status: str = psutil.Process(process_id).status()
    except psutil.NoSuchProcess:
        return True
    return status == psutil.STATUS_ZOMBIE


def kill_all(process_id: int) -> None:
    """Kills a process and all its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process_id)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
