"""One job of a sweep in a process of its own: how it is started, what goes on in it, and how it is stopped."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig

from lightning_lora.sweeping.composing import job_folder

_STOPPING = {signal.SIGINT, signal.SIGTERM}
LOG = "job.log"
"""File in a job's folder with everything that it has printed, tracebacks included."""


@dataclass(frozen=True)
class Job:
    """A job that is composed, to be started for the ``attempt``-th time."""

    overrides: Sequence[str]
    config: DictConfig
    attempt: int = 1

    @property
    def folder(self) -> Path:
        """Where it is at work."""
        return job_folder(self.config)


@dataclass
class Running:
    """A job and its process.

    Attributes:
        gpu: Number or name of the one it has to itself; None on a CPU.
        held: While this end is open, the process that started the job is alive.
        started: By `time.monotonic`.
        asked: When it was asked to stop, by `time.monotonic`; None where it was not.
    """

    job: Job
    process: ForkServerProcess
    gpu: str | None
    held: connection.Connection
    started: float
    asked: float | None = None

    def stop(self) -> None:
        """Ask it once to save and stop; asked twice, it would stop without saving."""
        if self.asked is None and self.process.is_alive():
            self.asked = time.monotonic()
            self.process.terminate()

    def was_there(self) -> bool:
        """Whether a job that has ended found itself finished before."""
        try:
            return bool(self.held.poll() and self.held.recv())
        except EOFError:  # it ended without saying so
            return False


def minutes_since(moment: float) -> float:
    """Minutes between a moment of `time.monotonic` and now."""
    return (time.monotonic() - moment) / 60


def start_server(context: ForkServerContext, preloaded: list[str]) -> None:
    """Start the process that forks the jobs, and have it import what they need.

    It is deaf to what stops the sweep, which a terminal or a service manager sends to it, too: through it the sweep
    knows which jobs are alive, and it ends with the sweep. Here the signals wait while it is being started.
    """
    context.set_forkserver_preload(preloaded)
    resource_tracker.ensure_running()  # the server starts it otherwise, and it would unblock the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def start(
    context: ForkServerContext, job: Job, task: Callable[[Any], Any], hydra: HydraContext, gpu: str | None, threads: int
) -> Running:
    """Start a job's process.

    Args:
        context: Forks it.
        job: What to run.
        task: The function that carries a job out.
        hydra: Handed on to Hydra.
        gpu: The only GPU it will see; None leaves all.
        threads: Which it computes with on a CPU.
    """
    held, watched = context.Pipe()
    job.folder.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_carry_out, args=(job, task, hydra, gpu, threads, watched))
    process.start()
    watched.close()
    return Running(job, process, gpu, held, time.monotonic())


def _carry_out(
    job: Job,
    task: Callable[[Any], Any],
    hydra: HydraContext,
    gpu: str | None,
    threads: int,
    watched: connection.Connection,
) -> None:
    """What goes on in the job's process."""
    from lightning_lora.sweeping import progress

    os.setsid()  # Ctrl-C reaches the sweep, which asks its jobs to stop
    _hear_again()
    with (job.folder / LOG).open("a", buffering=1) as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    threading.Thread(target=_stop_with_sweep, args=(watched,), daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(threads)
    setup_globals()
    version.setbase("1.3")
    with progress.shown(1) as told:
        result = run_job(
            task_function=task,
            config=job.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=hydra,
        )
    with suppress(OSError):  # the sweep was killed
        watched.send(bool(told.reused))
    sys.exit(0 if result.status == JobStatus.COMPLETED else 1)


def _hear_again() -> None:
    """Undo what `start_server` has left blocked. A Ctrl-C that came before is forgotten, a SIGTERM is obeyed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _stop_with_sweep(watched: connection.Connection) -> None:
    """Where the sweep is killed, its jobs save and stop, instead of going on unseen."""
    try:
        watched.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)
