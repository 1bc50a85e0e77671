"""``hydra/launcher=slurm``: the jobs of a sweep as an array in Slurm, by submitit."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

from lightning_lora.sweeping.composing import composed, failure_of, job_folder, returned

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

_LOOK_SECONDS = 2.0
_EXECUTORS_OWN = ("submitit_folder", "max_num_timeout")
_COMMON_TO_CLUSTERS = (
    "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout",
)  # fmt: skip


class SlurmLauncher(Launcher):
    """Waits for every job of an array, and returns one that died as one that failed.

    What runs in a job is hydra-submitit-launcher's. Its own ``launch`` raises at the first job that died, while the
    others still run, and their results are lost.
    """

    def __init__(self, **params: Any) -> None:
        """Keep what ``hydra.launcher`` says: the settings of hydra-submitit-launcher's ``submitit_slurm``."""
        self._params = params

    def setup(self, *, hydra_context: HydraContext, task_function: Callable[[Any], Any], config: DictConfig) -> None:
        """Make what runs in each job."""
        from hydra_plugins.hydra_submitit_launcher import submitit_launcher

        self.hydra_context, self.config = hydra_context, config
        self._in_job = submitit_launcher.SlurmLauncher(**self._params)
        self._in_job.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submit the jobs and wait for all of them.

        Args:
            job_overrides: The overrides of each job.
            initial_job_idx: Number of the first.

        Raises:
            ValueError: Slurm refuses them.
        """
        from submitit.core.utils import FailedJobError
        from submitit.helpers import as_completed

        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        calls = [
            (list(words), "hydra.sweep.dir", number, str(number), Singleton.get_state())
            for number, words in enumerate(job_overrides, start=initial_job_idx)
        ]
        try:
            jobs = self._executor().map_array(_InJob(self._in_job), *zip(*calls, strict=True))
        except FailedJobError as error:  # of sbatch
            raise ValueError(f"Slurm refuses the jobs: {str(error).strip().splitlines()[-1]}") from error
        array = jobs[0].job_id.partition("_")[0]
        print(f"Slurm job {array}: {len(jobs)} jobs, logs in {jobs[0].paths.folder.parent}", flush=True)
        numbers = {job.job_id: number for number, job in enumerate(jobs, start=initial_job_idx)}
        results = {}
        try:
            for job in as_completed(jobs, poll_frequency=_LOOK_SECONDS):
                number = numbers[job.job_id]
                results[number] = self._outcome(job, list(job_overrides[number - initial_job_idx]), number)
        except KeyboardInterrupt:
            print(f"the jobs go on in Slurm; 'scancel {array}' ends them", file=sys.stderr)
            raise
        return [results[number] for number in sorted(results)]

    def _outcome(self, job: "Job[JobReturn]", words: list[str], number: int) -> JobReturn:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        from lightning_lora.sweeping import closing, progress

        killed = False
        try:
            result = job.results()[0]
        except UncompletedJobError as error:  # FailedJobError where the job has raised, and so has recorded why
            killed = not isinstance(error, FailedJobError)
            print(f"Slurm job {job.job_id} failed: {shlex.join(words)}; log: {job.paths.stderr}", file=sys.stderr)
            result = returned(words, composed(self.hydra_context, self.config, words, number), error)
        folder = job_folder(result.hydra_cfg)
        progress.ended(closing.record_of(folder, result.cfg, failure_of(result) or "", killed), folder)
        return result

    def _executor(self) -> Any:
        from submitit import AutoExecutor

        params = self._in_job.params
        executor = AutoExecutor(
            params["submitit_folder"], cluster="slurm", slurm_max_num_timeout=params["max_num_timeout"]
        )
        executor.update_parameters(
            **{
                key if key in _COMMON_TO_CLUSTERS else f"slurm_{key}": value
                for key, value in params.items()
                if key not in _EXECUTORS_OWN
            }
        )
        return executor


class _InJob:
    """What submitit runs in a job, and runs again when the job was requeued."""

    def __init__(self, run: Callable[..., JobReturn]) -> None:
        self._run = run

    def __call__(self, *call: Any) -> JobReturn:
        done = self._run(*call)
        done.return_value  # noqa: B018 - raises what the job raised, so that Slurm, too, shows it as failed
        return done

    def checkpoint(self, *call: Any) -> "DelayedSubmission":
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *call)
