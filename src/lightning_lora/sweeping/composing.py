"""The configuration of one job of a sweep, and its folder, before the job is started."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lightning_lora.settings import first_line


def composed(hydra: HydraContext, sweep: DictConfig, words: Sequence[str], number: int) -> DictConfig:
    """What a job composes for itself, its folder filled in as ``hydra.runtime.output_dir``.

    Args:
        hydra: Knows where configurations lie.
        sweep: The configuration of the sweep.
        words: The job's overrides.
        number: Of the job in its sweep.
    """
    config = hydra.config_loader.load_sweep_config(sweep, list(words))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    HydraConfig.instance().set_config(config)
    folder = Path(str(sweep.hydra.sweep.dir), str(OmegaConf.select(config, "hydra.sweep.subdir")))
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.runtime.output_dir = str(folder.absolute())
    return config


def job_folder(config: DictConfig | None) -> Path:
    """The folder of a job that is composed, or that a launcher has run."""
    assert config is not None, "JobReturn starts without it; every launcher fills it in"
    return Path(config.hydra.runtime.output_dir)


def returned(words: Sequence[str], config: DictConfig, outcome: Exception | float | None) -> JobReturn:
    """What a launcher gives back of a job that ran elsewhere.

    Args:
        words: The job's overrides.
        config: Its composed configuration.
        outcome: Its score, or why it failed.
    """
    result = JobReturn(
        overrides=list(words), cfg=without_hydra(config), hydra_cfg=OmegaConf.masked_copy(config, "hydra")
    )
    result.status = JobStatus.FAILED if isinstance(outcome, Exception) else JobStatus.COMPLETED
    result.return_value = outcome
    return result


def failure_of(result: JobReturn) -> str | None:
    """Why a job failed, in one line; None where it did not."""
    return first_line(result._return_value) if result.status == JobStatus.FAILED else None


def without_hydra(config: DictConfig) -> DictConfig:
    """A job's own part of its composed configuration."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def resolved(config: DictConfig) -> dict[str, Any]:
    """A job's own part of its composed configuration as plain values."""
    values: Any = OmegaConf.to_container(without_hydra(config), resolve=True)
    return values
