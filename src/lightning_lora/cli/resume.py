"""`resume=RUN`: go on with a run from its folder, by its own settings."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from yaml import YAMLError

from lightning_lora.cli.options import groups
from lightning_lora.cli.precheck import Checked
from lightning_lora.config import RunConfig, run_config_of, with_settings
from lightning_lora.recorded_paths import found_from, model_from
from lightning_lora.run_folder import RECORD
from lightning_lora.settings import ConfigError, first_line, flat, shown
from lightning_lora.sweeping import determines_result

if TYPE_CHECKING:
    from lightning_lora.reporting import RunRecord


def is_finished(folder: Path) -> bool:
    """Whether there is nothing left to do."""
    record = _record(folder)
    return record is not None and record.status == "finished"


def config_of(checked: Checked, folder: Path) -> RunConfig:
    """The configuration of the run in ``folder``, with what the command line changes that does not change the result.

    Raises:
        ConfigError: a sweep is asked for, ``folder`` holds no run, or the command line gives it other settings.
    """
    if checked.line.multirun or len(checked.configs) > 1:
        raise ConfigError("resume takes one run and no -m: it goes on with the job of a sweep like with any other run")
    overrides = [override for override in checked.given if override.key_or_group != "resume"]
    for override in overrides:
        if determines_result(override.key_or_group):
            word = shown(override.input_line)
            raise ConfigError(f"'{word}' is not allowed with resume: a run goes on by its own settings")
    (config,) = checked.configs
    given = flat(asdict(config))
    return with_settings(stored_config(folder), {key: given[key] for key in _changed(overrides)})


def stored_config(folder: Path) -> RunConfig:
    """The configuration that a run's folder holds: in its record, or where it did not get so far, as Hydra wrote it.

    Raises:
        ConfigError: it holds none, or one that this version does not take.
    """
    hydra = folder / ".hydra" / "config.yaml"
    try:
        record = _record(folder)
        if record is not None:
            return _from_here(run_config_of(record.config), folder)
        if hydra.is_file():
            stored: Any = OmegaConf.to_container(OmegaConf.load(hydra))
            return _from_here(run_config_of(stored), folder)
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"the settings in {shown(folder)} cannot be read: {first_line(error)}") from error
    raise ConfigError(f"resume={shown(folder)} is not a run's folder: it holds neither result.json nor .hydra/")


def _from_here(config: RunConfig, folder: Path) -> RunConfig:
    config.model.name = model_from(folder, config.model.name)
    config.data.path = config.data.path and found_from(folder, config.data.path)
    config.warm_start = config.warm_start and found_from(folder, config.warm_start)
    return config


def _record(folder: Path) -> "RunRecord | None":
    # pyarrow, which the room of the records loads, takes a second: a refused command line does not wait for it.
    from lightning_lora.reporting.record import read_record

    return read_record(folder) if (folder / RECORD).is_file() else None


def _changed(overrides: Sequence[Override]) -> list[str]:
    """The full name of every key that overrides set; an option of a group sets what its file says."""
    found: list[str] = []
    for override in overrides:
        key = override.key_or_group
        value: Any = override.value()
        if key in groups():
            value = OmegaConf.to_container(OmegaConf.load(str(files("lightning_lora.conf") / key / f"{value}.yaml")))
        found += flat({key: value})
    return found
