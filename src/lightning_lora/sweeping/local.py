"""A launcher for one machine: a process for each job, so that no job can end or slow another one.

Jobs are forked from a server that has imported torch once; a job of a few seconds would otherwise spend as long on
imports. Whatever ends a job (an error, `sys.exit`, kill -9, the kernel for want of memory), the others go on.
"""

import glob
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

from lightning_lora.sweeping.composing import composed, returned, without_hydra
from lightning_lora.sweeping.job_process import LOG, Job, Running, minutes_since, start, start_server
from lightning_lora.sweeping.local_settings import LocalSettings

# What a job imports first. Named, not imported: it stands above this room, and takes seconds.
_PRELOADED = "lightning_lora.running"
# Seconds between looks at the clock, and minutes that a job has for saving, once asked to stop, before it is killed.
_LOOK, _GRACE = 0.5, 1.0


class JobProcessError(RuntimeError):
    """A job's process ended without a result; the message says how, and where its log lies."""


class LocalLauncher(Launcher):
    """Runs the jobs of a sweep side by side, each in a process with a log of its own."""

    def __init__(self, **settings: Any) -> None:
        """Keep what ``hydra.launcher`` says: the fields of `LocalSettings`."""
        self._settings = LocalSettings(**settings)
        self.gpus = _gpus() if self._settings.gpus is None else [str(number) for number in self._settings.gpus]
        self.n_parallel = self._settings.n_parallel or len(self.gpus) or 1
        self._signal: int | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: Callable[[Any], Any], config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; returns when all have ended.

        Raises:
            SystemExit: SIGTERM or SIGINT came. The jobs that ran have saved, or have been killed: `_GRACE` later, or
                at a second signal.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        context = multiprocessing.get_context("forkserver")
        jobs = [
            Job(tuple(words), composed(self.hydra_context, self.config, words, number))
            for number, words in enumerate(job_overrides, start=initial_job_idx)
        ]
        threads = max(1, _cores() // self.n_parallel)
        results: dict[Path, JobReturn] = {}
        waiting, running = list(jobs), list[Running]()
        with self._signals_passed_on(running):
            start_server(context, [_PRELOADED, self.task_function.__module__])
            while running or (waiting and self._signal is None):
                while waiting and len(running) < self.n_parallel and self._signal is None:
                    taken = [one.gpu for one in running]
                    gpu = min(self.gpus, key=taken.count, default=None)
                    job = waiting.pop(0)
                    running.append(start(context, job, self.task_function, self.hydra_context, gpu, threads))
                    self._tell_of_signal(running[-1])
                connection.wait([one.process.sentinel for one in running], timeout=_LOOK)
                for one in list(running):
                    if self._goes_on(one):
                        continue
                    running.remove(one)
                    one.process.join()
                    if self._is_started_again(one):
                        waiting.insert(0, replace(one.job, attempt=one.job.attempt + 1))
                    elif self._signal is None:
                        results[one.job.folder] = self._result(one, len(running))
                    one.held.close()
        if self._signal is not None:
            raise SystemExit(128 + self._signal)
        return [results[job.folder] for job in jobs]

    def _tell_of_signal(self, one: Running) -> None:
        """Pass on a signal that came while the process was being started."""
        if self._signal is not None:
            one.stop()

    def _goes_on(self, one: Running) -> bool:
        if not one.process.is_alive():
            return False
        limit = self._settings.time_limit_minutes
        if limit is not None and minutes_since(one.started) > limit:
            one.stop()
        if one.asked is not None and minutes_since(one.asked) > _GRACE:
            one.process.kill()
        return True

    def _is_started_again(self, one: Running) -> bool:
        was_killed = (one.process.exitcode or 0) < 0 and one.asked is None
        return was_killed and one.job.attempt <= self._settings.retries

    def _result(self, one: Running, others: int) -> JobReturn:
        # Reads records, which takes a second to import; Hydra imports this module before every command.
        from lightning_lora.sweeping import closing, progress

        job, code = one.job, one.process.exitcode
        why = self._why(one, code) if code else ""
        killed = not 0 <= (code or 0) < 128  # a shell, too, gives more than 128 for a signal
        record = closing.record_of(job.folder, without_hydra(job.config), why, killed)
        progress.ended(record, job.folder, one.was_there(), running=others)
        failure = JobProcessError(f"{job.folder.name}: {why}; see {job.folder / LOG}") if code else None
        return returned(job.overrides, job.config, failure or record.score)

    def _why(self, one: Running, code: int) -> str:
        if one.asked is not None:
            return f"stopped after hydra.launcher.time_limit_minutes={self._settings.time_limit_minutes:g}"
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
        return f"ended with status {code}"

    @contextmanager
    def _signals_passed_on(self, running: list[Running]) -> Iterator[None]:
        """Within the block, SIGTERM or SIGINT stops the jobs that run, and no further one is started.

        A second one kills them.
        """

        def answer(number: int, frame: FrameType | None) -> None:
            again, self._signal = self._signal is not None, number
            for one in running:
                one.process.kill() if again else one.stop()
            if again:
                raise SystemExit(128 + number)

        before: dict[int, Any] = {number: signal.signal(number, answer) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _cores() -> int:
    """Those that this process may use: under a job manager or taskset fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """Those that processes of this one may use, counted without torch: asking CUDA would keep forked jobs from it.

    By number, or as a job manager names them and parts of them: ``GPU-...``, ``MIG-...``.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return [name for name in names if name.isdecimal() or name.startswith(("GPU-", "MIG-"))]
    return [str(number) for number in range(len(glob.glob("/dev/nvidia[0-9]*")))]
