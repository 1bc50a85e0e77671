"""The words ``key=value`` of a command line: read with Hydra's grammar, and each name checked against what exists."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

from lightning_lora.cli.launching import check_extra
from lightning_lora.cli.options import NOT_OPTIONS, OVERLAYS, groups
from lightning_lora.config import schema_settings
from lightning_lora.settings import ConfigError, shown
from lightning_lora.spelling import did_you_mean
from lightning_lora.sweeping.search_settings import ends, is_interval

MOST_VALUES = 1000


def read(words: Iterable[str], loader: ConfigLoader) -> list[Override]:
    """Parse overrides and check their keys, and the options of those that choose from a group.

    Raises:
        ConfigError: a word cannot be read, or names what is not there.
    """
    parser = OverridesParser.create(config_loader=loader)
    overrides = []
    for word in words:
        try:
            (override,) = parser.parse_overrides([word])
        except HydraException as error:
            setting = schema_settings().get(word.partition("=")[0])
            hint = (
                f"{word.partition('=')[0]} must be {setting.allowed}" if setting else "a key is plain letters and dots"
            )
            raise ConfigError(
                f"cannot read '{shown(word)}': {hint}; special characters need quotes twice, 'key=\"value\"'"
            ) from error
        _check_key(override)
        for value in values_of(override):
            if is_group(override):
                _check_option(override.key_or_group, value, loader)
        overrides.append(override)
    return overrides


def values_of(override: Override) -> list[Any]:
    """The values of an axis, of an interval its two ends; the one value of an override that is no axis.

    Raises:
        ConfigError: the axis is empty, longer than `MOST_VALUES`, or no interval of numbers.
    """
    if not override.is_sweep_override():
        return [override.value()]
    word = shown(override.input_line)
    if override.is_hydra_override():
        raise ConfigError(f"'{word}' is not supported: Hydra's own settings cannot be swept")
    is_glob = override.value_type == ValueType.GLOB_CHOICE_SWEEP
    if is_interval(override):
        return _ends(override)
    if is_glob and not is_group(override):
        raise ConfigError(f"'{word}' is not supported: list the values to try, key=1,2,3 or key=range(1,4)")
    try:
        values = list(itertools.islice(override.sweep_iterator(), MOST_VALUES + 1))
    except (HydraException, ValueError, ArithmeticError) as error:  # of a step of 0, and of a bound that is no number
        raise ConfigError(f"'{word}' is not allowed: a range needs numbers, and a step other than 0") from error
    if not 0 < len(values) <= MOST_VALUES:
        raise ConfigError(f"'{word}' must give from 1 to {MOST_VALUES} values")
    return values


def _ends(axis: Override) -> list[Any]:
    low, high = ends(axis)
    setting = schema_settings().get(axis.key_or_group)
    if setting is not None and not setting.accepts(low) and setting.accepts(math.ceil(low)):
        raise ConfigError(
            f"'{shown(axis.input_line)}' is not allowed: {axis.key_or_group} must be {setting.allowed}; "
            f"for whole numbers write {axis.key_or_group}=int(interval({low:g},{high:g}))"
        )
    return [low, high]


def is_group(override: Override) -> bool:
    """Whether the override chooses an option of a group."""
    return override.key_or_group in groups() or override.key_or_group in OVERLAYS or "/" in override.key_or_group


def _check_key(override: Override) -> None:
    key, word = override.key_or_group, shown(override.input_line)
    if override.is_delete():
        raise ConfigError(f"'{word}' is not supported: a setting cannot be deleted, only given another value")
    if override.package is not None:
        raise ConfigError(f"'{word}' is not supported: leave out @{override.package}")
    if override.is_hydra_override():
        return
    plus = override.is_add() or override.is_force_add()
    if key in OVERLAYS:
        if not plus:
            raise ConfigError(f"'{word}' needs a plus, because it is no part of the defaults: write +{word}")
        if key == "sweeps" and override.is_sweep_override():
            raise ConfigError(f"'{word}' is not supported: an overlay is a sweep of its own; start one for each")
        return
    sections = {name.partition(".")[0] for name in schema_settings() if "." in name}
    if key not in schema_settings() and key not in groups() and key not in sections:
        raise ConfigError(f"unknown key '{shown(key)}'{_near_key(key) or '; see --help'}")
    if plus:
        raise ConfigError(f"'{word}' has a plus too many: write {word.lstrip('+')}")


def _check_option(group: str, value: Any, loader: ConfigLoader) -> None:
    if not isinstance(value, str) or not _is_option(group, value, loader):
        options = [option for option in _options(group, loader) if not option.startswith("_")]
        listed = ", ".join(options) or f"the .yaml files in {group}/ of the current directory, and there are none"
        near = did_you_mean(str(value), options)
        raise ConfigError(f"{group}={shown(value)} is not an option: {group} must be one of {listed}{near}")
    check_extra(group, value)


def _is_option(group: str, value: str, loader: ConfigLoader) -> bool:
    """Whether an option is there, without a walk through the group: experiments/ of a clone has hundreds of folders."""
    *folders, name = value.split("/")
    folder = "/".join([group, *folders])
    if folder in NOT_OPTIONS or value.startswith("_") or {"", ".", ".."} & {*folders}:
        return False
    return name in loader.get_group_options(folder, ObjectType.CONFIG, "train")


def _options(group: str, loader: ConfigLoader) -> list[str]:
    # The search path stands in train.yaml; without its name the loader does not look below the current directory.
    found = list(loader.get_group_options(group, ObjectType.CONFIG, "train"))
    inner_groups = loader.get_group_options(group, ObjectType.GROUP, "train")
    for inner in (inner for inner in inner_groups if f"{group}/{inner}" not in NOT_OPTIONS):
        found += [f"{inner}/{option}" for option in _options(f"{group}/{inner}", loader)]
    return found


def _near_key(key: str) -> str:
    known = [*schema_settings(), *groups()]
    same_end = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return did_you_mean(key, same_end) or did_you_mean(key, known)
