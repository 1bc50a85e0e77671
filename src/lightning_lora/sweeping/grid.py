"""Hydra's sweep over a grid, which ends with the table of its jobs whether or not all of them did."""

from pathlib import Path

from lightning_lora.sweeping.composing import composed, failure_of, job_folder
from lightning_lora.sweeping.identity import of_adapters_only
from lightning_lora.sweeping.sweeper import OverlaySweeper


class GridSweeper(OverlaySweeper):
    """Every combination of the values, in the order of the command line, the last setting's values fastest.

    Hydra's own sweeper raises the first failure after the last job, and says nothing of the rest.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        """Keep the settings to vary, by their names, each with its values as on a command line."""
        super().__init__(params)

    def sweep(self, arguments: list[str]) -> None:
        """Run all jobs, print their table, and end with status 1 if one of them failed.

        Raises:
            CannotWriteError: the file system refuses.
            SystemExit: status 1 where a job failed, 130 and 143 where SIGINT and SIGTERM stopped the sweep.
        """
        # Hydra imports this module before every command; what reads records takes a second to import.
        from lightning_lora.sweeping import closing, progress

        jobs = self._jobs(arguments)
        folder = self.folder_with_config()
        with closing.told_how_to_go_on(folder, len(jobs)), progress.shown(len(jobs)):
            results = list(self.launcher.launch(jobs, initial_job_idx=0))
        closing.close(folder, [job_folder(result.hydra_cfg) for result in results])
        if any(failure_of(result) is not None for result in results):
            raise SystemExit(1)

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        # Hydra runs that file once more when it looks for plugins, so its class is not to be held on to before.
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        overrides = self.overrides(arguments)
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        varied = [override.get_key_element() for override in overrides if override.is_sweep_override()]
        return self._each_once(jobs) if any(map(of_adapters_only, varied)) else jobs

    def _each_once(self, jobs: list[list[str]]) -> list[list[str]]:
        """The jobs, of those with the same folder the first: a baseline is the same at every rank.

        Composing a job takes a tenth of a second.
        """
        found: dict[Path, list[str]] = {}
        for number, words in enumerate(jobs):
            found.setdefault(job_folder(composed(self.hydra_context, self.config, words, number)), words)
        return list(found.values())
