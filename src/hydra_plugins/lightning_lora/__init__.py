"""What Hydra finds of this package by itself: it takes sweepers and launchers from this namespace only.

Hydra imports this file at every start, of whatever program of the environment; so nothing heavy is imported here.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn

from lightning_lora.cli.failure import one_line_for_mistakes
from lightning_lora.sweeping import optuna_sweeper, slurm
from lightning_lora.sweeping.search_settings import SearchSettings


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """``hydra/sweeper=optuna``."""

    def sweep(self, arguments: list[str]) -> Any:
        """Search; a mistake of the user's is one line and status 2, as everywhere."""
        with one_line_for_mistakes():
            return super().sweep(arguments)


class SlurmLauncher(slurm.SlurmLauncher):
    """``hydra/launcher=slurm``."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Submit, and wait."""
        with one_line_for_mistakes():
            return super().launch(job_overrides, initial_job_idx)


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=SearchSettings, provider="lightning-lora")
