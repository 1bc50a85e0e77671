"""How the jobs of a sweep are chosen and started, Hydra's sweeper and launcher, checked before anything starts."""

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from lightning_lora.config import RunConfig
from lightning_lora.settings import ConfigError, shown
from lightning_lora.spelling import did_you_mean
from lightning_lora.sweeping.grid_settings import GridSettings
from lightning_lora.sweeping.search_settings import SearchSettings, is_interval, is_logarithmic

EXTRAS = {
    ("hydra/sweeper", "optuna"): ("optuna",),
    ("hydra/launcher", "slurm"): ("submitit", "hydra_plugins.hydra_submitit_launcher"),
}
"""Options that need an extra of this package, which has the option's name, and the modules that it installs."""


def check_extra(group: str, option: str) -> None:
    """Check that what an option needs is installed.

    Raises:
        ConfigError: it is not.
    """
    if not all(map(_is_installed, EXTRAS.get((group, option), ()))):
        raise ConfigError(
            f"{group}={option} needs an extra: pip install 'lightning-lora[{option}]', in a clone -e '.[{option}]'"
        )


def check_launching(config: DictConfig, axes: Sequence[Override]) -> None:
    """Check that a sweep can be started as it is asked for.

    Args:
        config: A composed config with its ``hydra`` part.
        axes: What is varied.

    Raises:
        ConfigError: an extra or Slurm is missing, a setting of the sweeper or of the launcher is wrong, there is
            nothing to search, or an interval is to be listed.
    """
    choices = config.hydra.runtime.choices
    for group in ("hydra/sweeper", "hydra/launcher"):
        check_extra(group, choices[group])
    if choices["hydra/launcher"] == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=slurm needs Slurm, and there is no sbatch on this machine")
    if choices["hydra/launcher"] == "local":
        OmegaConf.to_object(config.hydra.launcher)  # the settings check themselves
    _check_keys(config.hydra.sweeper, choices["hydra/sweeper"])
    if choices["hydra/sweeper"] == "optuna":
        OmegaConf.to_object(config.hydra.sweeper)
        if not axes:
            raise ConfigError(
                "hydra/sweeper=optuna has nothing to search: give an axis, such as lr=interval(1e-4,1e-2)"
            )
        for axis in filter(Override.is_sweep_override, axes):
            is_logarithmic(axis)
    elif interval := next(filter(is_interval, axes), None):
        raise ConfigError(
            f"'{shown(interval.input_line)}' is not supported: list the values to try, key=1,2,3 or key=range(1,4), "
            "or search with hydra/sweeper=optuna"
        )


def _check_keys(sweeper: DictConfig, option: str) -> None:
    """Refuse settings that a sweeper has not. Hydra's own, basic, stands for the grid, which lacks one that it has."""
    known = (SearchSettings if option == "optuna" else GridSettings).__dataclass_fields__
    values: Any = OmegaConf.to_container(sweeper)
    for key in values.keys() - known.keys():
        if option != "basic" or values[key] is not None:
            raise ConfigError(f"unknown key 'hydra.sweeper.{shown(key)}'{did_you_mean(str(key), known)}")


def check_jobs(launcher: str, configs: Sequence[RunConfig]) -> None:
    """Check that each job can be one of a sweep.

    Slurm starts the further processes of a job itself. Elsewhere Lightning does, by the command line, which is the
    whole sweep's.

    Raises:
        ConfigError: one needs several processes, or keeps no result.
    """
    for trainer in (config.trainer for config in configs):
        if trainer.fast_dev_run:
            raise ConfigError(
                "trainer.fast_dev_run=true is not supported in a sweep: it keeps no result; try one job, without -m"
            )
        counts = {"trainer.devices": trainer.devices, "trainer.num_nodes": trainer.num_nodes}
        for key, value in counts.items() if launcher != "slurm" else ():
            if value != 1 and not (isinstance(value, list) and len(value) == 1):
                raise ConfigError(
                    f"{key}={shown(value)} is not supported in a sweep: Lightning would start the sweep anew in each "
                    "further process; run the jobs singly, or give each GPU a job with hydra/launcher=local"
                )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it lies in is not there
        return False
