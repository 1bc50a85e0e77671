"""Our sweepers, launchers and callback under the one name from which Hydra takes plugins.

Hydra imports this file at every start, of whatever program of the environment; so nothing heavy is imported here.
"""

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn

from lightning_lora.cli.failure import one_line_for_mistakes
from lightning_lora.sweeping import between_jobs, grid, local, optuna_sweeper, slurm
from lightning_lora.sweeping.grid_settings import GridSettings
from lightning_lora.sweeping.local_settings import LocalSettings
from lightning_lora.sweeping.search_settings import SearchSettings


class GridSweeper(grid.GridSweeper):
    """``hydra/sweeper=grid``, the default."""

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs; a mistake of the user's is one line and status 2, as everywhere."""
        with one_line_for_mistakes():
            super().sweep(arguments)


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """``hydra/sweeper=optuna``."""

    def sweep(self, arguments: list[str]) -> None:
        """Search."""
        with one_line_for_mistakes():
            super().sweep(arguments)


class LocalLauncher(local.LocalLauncher):
    """``hydra/launcher=local``."""


class SlurmLauncher(slurm.SlurmLauncher):
    """``hydra/launcher=slurm``."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submit, and wait."""
        with one_line_for_mistakes():
            return super().launch(job_overrides, initial_job_idx)


class BetweenJobs(between_jobs.BetweenJobs):
    """``hydra.callbacks.between_jobs``."""


for group, name, node in (
    ("hydra/sweeper", "grid", GridSettings),
    ("hydra/sweeper", "optuna", SearchSettings),
    ("hydra/launcher", "local", LocalSettings),
):
    ConfigStore.instance().store(group=group, name=name, node=node, provider="lightning-lora")
