"""Our sweepers and launchers under the one name from which Hydra takes plugins.

Hydra looks for them in installed packages, and does not find those of an editable installation: `register` tells it.
"""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from lightning_lora.sweeping import resolver
from lightning_lora.sweeping.grid import Grid
from lightning_lora.sweeping.local import Local


class GridSweeper(Grid):
    """``hydra/sweeper=grid``, the default."""


@dataclass
class GridSweeperConfig:
    """Settings of `GridSweeper`.

    Attributes:
        params: Settings to vary, by their names, each with its values as on a command line.
    """

    _target_: str = "hydra_plugins.lightning_lora.GridSweeper"
    params: dict[str, str] | None = None


class LocalLauncher(Local):
    """``hydra/launcher=local``."""


@dataclass
class LocalLauncherConfig:
    """Settings of `LocalLauncher`, as `Local` explains them."""

    _target_: str = "hydra_plugins.lightning_lora.LocalLauncher"
    n_parallel: int | None = None
    gpus: list[int] | None = None
    retries: int = 0
    time_limit_minutes: float | None = None


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConfig, provider="lightning-lora")
ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConfig, provider="lightning-lora")


def register() -> None:
    """Make the plugins known to Hydra in this process."""
    for plugin in (GridSweeper, LocalLauncher):
        Plugins.instance().register(plugin)


# A job that a launcher starts in another process needs it too.
resolver.register()
