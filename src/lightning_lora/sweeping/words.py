"""Settings as the words of a command line, which Hydra's grammar reads back to the same values."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from lightning_lora.settings import flat, shown
from lightning_lora.sweeping.composing import resolved


def word(key: str, value: Any) -> str:
    """A setting as an override."""
    return f"{key}={_element(value)}"


def of_single_run(hydra: HydraContext, job: DictConfig) -> list[str]:
    """What a single run is given to have the settings of a job.

    The overlays that ask for the sweep would ask for it again, so what they set stands here instead of them.

    Args:
        hydra: Knows where configurations lie.
        job: The composed configuration of the job.
    """

    def composed_of(words: Sequence[str]) -> DictConfig:
        return hydra.config_loader.load_configuration(job.hydra.job.config_name, list(words), RunMode.RUN)

    given = list(job.hydra.overrides.task)
    kept = [one for one in given if not (one.startswith("+") and _asks_for_sweep(composed_of([one])))]
    found = flat(resolved(composed_of(kept)))
    return kept + [word(key, value) for key, value in flat(resolved(job)).items() if found[key] != value]


def _asks_for_sweep(config: DictConfig) -> bool:
    hydra = config.hydra
    return (
        hydra.mode == RunMode.MULTIRUN
        or hydra.runtime.choices["hydra/sweeper"] != "basic"
        or bool(OmegaConf.select(hydra, "sweeper.params"))
    )


def _element(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_element, value))}]"
    if isinstance(value, str):
        return value if _is_plain(value) else QuotedString(value, Quote.single).with_quotes()
    return shown(value) if value is None or isinstance(value, bool) else repr(value)


def _is_plain(text: str) -> bool:
    """Whether a text means itself without quotes, which a number, a list or two values with a comma do not."""
    try:
        return bool(OverridesParser.create().parse_override(f"key={text}").value() == text)
    except HydraException:
        return False
