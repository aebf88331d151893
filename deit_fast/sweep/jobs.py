"""Trains a point as a job of the cluster, and finds the job that an earlier sweep submitted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from deit_fast.config import SlurmConfig
from deit_fast.sweep.here import Ended, error_line
from deit_fast.sweep.ledger import Ledger, is_finished
from deit_fast.sweep.points import Point
from deit_fast.train.slurm import FOLDER, kill_all, submit

_SECONDS_OF_GRACE = 15.0  # in which a result may reach a file system of several machines
_POLL_SECONDS = 5.0  # submitit asks the cluster itself seldom enough, but looks for a file each time


class Job:
    """A job that trains a point. It survives the sweep; a sweep that is started again waits for it."""

    def __init__(self, point: Point, ledger: Ledger) -> None:
        """Raises UserError where the job is refused."""
        self.point = point
        self.started = time.monotonic()
        self._slurm = point.config.slurm
        self._folder = point.folder / FOLDER
        job_id = _unfinished(self._folder, self._slurm)
        if job_id is None:
            job_id = submit(point.config, [f"--config-file={ledger.write_config(point)}", f"--run.dir={point.folder}"])["job"]
        else:
            print(f"job {job_id} goes on, for {point.folder}", flush=True)
        self._id = job_id
        self._job = _job(self._folder, job_id, self._slurm)
        self._looked = -_POLL_SECONDS
        self._is_cancelled = False
        self._over: float | None = None  # since when the job is known to be over

    def ended(self) -> Ended | None:
        """How the attempt ended; None: the job still waits or runs."""
        if self._over is None:
            if time.monotonic() < self._looked + (0.0 if self._slurm.cluster == "local" else _POLL_SECONDS):
                return None
            self._looked = time.monotonic()
            if not _is_over(self._job, self._id, self._slurm, is_urgent=self._is_cancelled):
                return None
            self._over = time.monotonic()
        if is_finished(self.point):
            return Ended(True)
        has_failed = self._job.paths.result_pickle.exists() and self._job.exception() is not None
        if not has_failed and time.monotonic() < self._over + _SECONDS_OF_GRACE and self._slurm.cluster != "local":
            return None
        log = Path(self._job.paths.stdout)
        line = error_line(log) if log.is_file() else ""
        return Ended(False, f"job {self._id}: {line or 'ended without a result or an error message'}")

    def stop(self) -> None:
        """Cancels the job, which writes a checkpoint if it has begun to train."""
        if self._slurm.cluster == "local":
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self._id), signal.SIGTERM)
        else:
            self._is_cancelled = True
            subprocess.run(["scancel", self._id], check=False)

    def kill(self) -> None:
        """Kills the job at once; SLURM does this by itself if a cancelled job continues."""
        if self._slurm.cluster != "local":
            return self.stop()
        kill_all(int(self._id))
        return None


def _unfinished(folder: Path, slurm: SlurmConfig) -> str | None:
    """The id of the job that was submitted last, if it may still be waiting or running."""
    submitted = sorted(folder.glob("*_submitted.pkl"), key=lambda path: path.stat().st_mtime)
    if not submitted:
        return None
    job_id = submitted[-1].name.removesuffix("_submitted.pkl")
    return None if _is_over(_job(folder, job_id, slurm), job_id, slurm, is_urgent=True) else job_id


def _job(folder: Path, job_id: str, slurm: SlurmConfig) -> Any:
    import submitit

    of_cluster = submitit.LocalJob if slurm.cluster == "local" else submitit.SlurmJob
    return of_cluster(folder, job_id)


def _is_over(job: Any, job_id: str, slurm: SlurmConfig, is_urgent: bool) -> bool:
    """Whether a job neither waits nor runs. If it is not urgent, submitit asks sacct only every ten minutes.

    A job that ended by itself leaves a file, which submitit sees at once."""
    if slurm.cluster == "slurm":
        return bool(job.done(force_check=is_urgent))
    try:
        controller = psutil.Process(int(job_id))
        return controller.status() == psutil.STATUS_ZOMBIE or "submitit.local._local" not in controller.cmdline()
    except psutil.NoSuchProcess:
        return True
