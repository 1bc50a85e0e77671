"""What a sweep of ours has of Hydra, whatever it then does: a launcher, and the settings to vary."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from lightning_lora.atomic import atomic_file, explained


class OverlaySweeper(Sweeper):
    """A sweeper whose settings come from an overlay, as ``hydra.sweeper.params``, and from the command line.

    Attributes:
        params: The overlay's, by their names, each with its values as on a command line.
        config: The composed configuration of the sweep.
        hydra_context: Hydra's knowledge of where configurations lie.
        launcher: Runs the jobs.
    """

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(self, params: Mapping[str, str] | None) -> None:
        """Keep the overlay's settings."""
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: Callable[[Any], Any], config: DictConfig) -> None:
        """Make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def folder_with_config(self) -> Path:
        """The sweep's folder, with the configuration in ``multirun.yaml`` as Hydra's own sweeper leaves it there.

        Raises:
            CannotWriteError: the file system refuses.
        """
        folder = Path(self.config.hydra.sweep.dir)
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "multirun.yaml") as temporary:
            OmegaConf.save(self.config, temporary)
        return folder

    def overrides(self, arguments: list[str]) -> list[Override]:
        """The overlay's settings and then those of the command line, which go before where both name one."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed: list[Override] = parser.parse_overrides(
            [*(f"{key}={values}" for key, values in self.params.items()), *arguments]
        )
        return parsed
