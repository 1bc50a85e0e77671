"""What a search is asked for, in a form that can be checked before Optuna is loaded."""

import math
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override

from lightning_lora import settings
from lightning_lora.settings import ConfigError, shown

SAMPLERS = ("tpe", "random")


@dataclass(kw_only=True)
class SearchSettings:
    """The keys of ``hydra.sweeper`` with ``hydra/sweeper=optuna``.

    Attributes:
        params: Axes by key, as an overlay in sweeps/ gives them; those of the command line go before.
    """

    n_trials: int = settings.whole(20, 1, "trials in all, those of earlier starts included")
    n_jobs: int = settings.whole(1, 1, "trials given to the launcher at once")
    sampler: str = settings.one_of("tpe", SAMPLERS, "how the next trial is chosen")
    seed: int = settings.whole(0, 0, "seed of the sampler", high=2**32 - 1)
    params: dict[str, str] | None = None
    _target_: str = "hydra_plugins.lightning_lora.OptunaSweeper"

    def __post_init__(self) -> None:
        settings.check(self, "hydra.sweeper.")


def is_interval(axis: Override) -> bool:
    """Whether the axis is an interval, which only a search can sample."""
    return isinstance(axis.value(), IntervalSweep)


def ends(axis: Override) -> list[Any]:
    """The two ends of an interval.

    Raises:
        ConfigError: it is no interval of finite numbers, its scale is not known, or does not reach down to its start.
    """
    interval = axis.value()
    assert isinstance(interval, IntervalSweep)
    assert interval.start is not None
    assert interval.end is not None
    word = shown(axis.input_line)
    if not (math.isfinite(interval.start) and math.isfinite(interval.end) and interval.start < interval.end):
        raise ConfigError(f"'{word}' is not allowed: an interval needs two finite numbers, the smaller one first")
    if unknown := sorted(interval.tags - {"log"}):
        raise ConfigError(f"'{word}' is not allowed: tag {shown(unknown[0])} is unknown, there is only log")
    if "log" in interval.tags and interval.start <= 0:
        raise ConfigError(f"'{word}' is not allowed: on a log scale an interval must start above 0")
    return [interval.start, interval.end]
