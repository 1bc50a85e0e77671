"""What a grid is asked for."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class GridSettings:
    """The keys of ``hydra.sweeper`` with ``hydra/sweeper=grid``.

    Attributes:
        params: Axes by key, as an overlay in sweeps/ gives them; those of the command line go before.
    """

    params: dict[str, str] | None = None
    _target_: str = "hydra_plugins.lightning_lora.GridSweeper"
