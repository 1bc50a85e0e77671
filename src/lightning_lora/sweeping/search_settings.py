"""What a search is asked for, in a form that can be checked before Optuna is loaded."""

import math
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Sweep

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


def is_logarithmic(axis: Override) -> bool:
    """Whether the numbers of an axis are chosen on a log scale.

    Raises:
        ConfigError: its tag is not known, or has no effect on such an axis, or the scale does not reach its start.
    """
    sweep = axis.value()
    if not isinstance(sweep, Sweep):
        return False
    word = shown(axis.input_line)
    if unknown := sorted(sweep.tags - {"log"}):
        raise ConfigError(f"'{word}' is not allowed: tag {shown(unknown[0])} is unknown, there is only log")
    if "log" not in sweep.tags:
        return False
    if isinstance(sweep, ChoiceSweep):
        raise ConfigError(
            f"'{word}' is not allowed: listed values are names, which have no scale; leave tag(log,...) out"
        )
    values: list[Any] = [sweep.start] if isinstance(sweep, IntervalSweep) else list(axis.sweep_iterator())
    if isinstance(sweep, RangeSweep) and not (abs(sweep.step) == 1 and all(isinstance(value, int) for value in values)):
        raise ConfigError(f"'{word}' is not allowed: on a log scale a range must go over whole numbers in steps of 1")
    if min(values) <= 0:
        raise ConfigError(f"'{word}' is not allowed: a log scale must start above 0")
    return True


def first_word(axis: Override) -> str:
    """The first point of an axis as an override; of an interval its lower end."""
    value = ends(axis)[0] if is_interval(axis) else next(axis.sweep_string_iterator())
    return f"{axis.get_key_element()}={value}"


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
    is_logarithmic(axis)
    return [interval.start, interval.end]
