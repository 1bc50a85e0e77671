"""How the jobs of a command line are to be chosen and started: Hydra's sweeper and launcher, checked before they are."""

from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from lightning_lora.settings import ConfigError, did_you_mean, shown
from lightning_lora.sweeping.search_settings import SearchSettings, is_interval

EXTRAS = {
    ("hydra/sweeper", "optuna"): (("optuna",), "optuna"),
    ("hydra/launcher", "slurm"): (("submitit", "hydra_plugins.hydra_submitit_launcher"), "slurm"),
}
"""Options that need more than this package brings: the modules they need, and the extra that installs them."""


def check_launching(config: DictConfig, axes: Sequence[Override]) -> None:
    """Check that a sweep can be started as it is asked for.

    Args:
        config: A composed config with its ``hydra`` part.
        axes: What is varied.

    Raises:
        ConfigError: a package is missing, a setting of the search is wrong, there is nothing to search, or an interval
            is to be listed.
    """
    choices = config.hydra.runtime.choices
    for (group, option), (modules, extra) in EXTRAS.items():
        if choices[group] == option and not all(map(_is_installed, modules)):
            raise ConfigError(f"{group}={option} needs an extra: pip install 'lightning-lora[{extra}]'")
    if choices["hydra/sweeper"] == "optuna":
        _check_search(config.hydra.sweeper, axes)
    elif interval := next(filter(is_interval, axes), None):
        raise ConfigError(
            f"'{shown(interval.input_line)}' is not supported: list the values to try, key=1,2,3 or key=range(1,4), "
            "or search with hydra/sweeper=optuna"
        )


def _check_search(sweeper: DictConfig, axes: Sequence[Override]) -> None:
    given = {str(key): value for key, value in OmegaConf.to_container(sweeper).items()}  # type: ignore[union-attr]
    known = [entry.name for entry in fields(SearchSettings)]
    for key in given.keys() - {"_target_", "params", *known}:
        raise ConfigError(f"unknown key 'hydra.sweeper.{shown(key)}'{did_you_mean(key, known)}")
    SearchSettings(**{name: given[name] for name in known})
    if not axes:
        raise ConfigError("hydra/sweeper=optuna has nothing to search: give an axis, such as lr=interval(1e-4,1e-2)")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it lies in is not there
        return False
