"""The whole command line checked before Hydra starts a job: every value of every axis, in well under a second.

Hydra composes a job when its turn comes, so a typing error in the last one would show after all the others have
trained. Here each value of an axis is composed once, beside the first values of the other axes; the other jobs of a
grid are checked from what these change. A rank too large for one of the models is looked for apart. Nothing of torch
is imported.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lightning_lora.cli import arguments, overrides, safety
from lightning_lora.cli.arguments import CommandLine
from lightning_lora.cli.composition import checked_config, compose_config, with_value
from lightning_lora.cli.guidelines import warnings_of
from lightning_lora.cli.launching import check_jobs, check_launching
from lightning_lora.config import RunConfig, schema_settings, with_settings
from lightning_lora.model_names import folder_of, is_path, is_saved_model
from lightning_lora.settings import ConfigError, flat, shown
from lightning_lora.sweeping import of_adapters_only, sweep_name
from lightning_lora.sweeping.search_settings import is_interval

_UNNAMED = "multirun/sweep"  # as train.yaml has it
_WIDTH_KEYS = ("hidden_size", "d_model", "dim", "n_embd")


@dataclass(frozen=True)
class Checked:
    """A command line that passed.

    Attributes:
        line: The command line taken apart.
        configs: The config of the first job, then one for each further value of each axis.
        warnings: What to say before the jobs start, one line each.
        sweep_words: How a sweep is carried out, where the command line does not say: by our grid, in a folder that is
            named after what varies.
        given: The overrides as Hydra's grammar reads them.
    """

    line: CommandLine
    configs: tuple[RunConfig, ...]
    warnings: tuple[str, ...] = ()
    sweep_words: tuple[str, ...] = ()
    given: tuple[Override, ...] = ()


def check(words: Sequence[str], one_job: bool = False) -> Checked:
    """Check a whole command line.

    Args:
        words: What stands after the command's name.
        one_job: Whether the command takes one job, and no -m.

    Raises:
        ConfigError: the first mistake found, in one line.
    """
    safety.refuse_secrets(words)
    line = arguments.parse(words)
    if not line.composes:
        return Checked(line, ())
    with initialize_config_module("lightning_lora.conf", version_base="1.3", job_name="train"):
        loader = GlobalHydra.instance().config_loader()
        given = overrides.read(line.overrides, loader)
        fixed = [_word(override) for override in given if not override.is_sweep_override()]
        base = compose_config(fixed)
        resumes = any(override.key_or_group == "resume" for override in given)
        axes = _axes(base, given, line, loader, takes_many=line.runs and not one_job and not resumes)
        fixed += [_word(axis) for axis in axes.values() if not axis.is_sweep_override()]  # an overlay's
        first = [_choices(axis)[0] for axis in axes.values() if axis.is_sweep_override()]
        composed = compose_config([*fixed, *first]) if axes else base
        start = _checked_job(composed, fixed, first)
        further = [list(_further(composed, [*fixed, *first], key, axis)) for key, axis in axes.items()]
    configs = (start, *(config for axis in further for _, config in axis))
    jobs = configs if base.hydra.runtime.choices["hydra/sweeper"] == "optuna" else _jobs_of_grid(start, further)
    if _is_sweep(base, line):
        check_jobs(base.hydra.runtime.choices["hydra/launcher"], configs)
    for config in configs:
        _check_places(config)
    _check_widths(configs)
    _check_effect([*given, *axes.values()], configs)
    sweep_words = _sweep_words(given, base, axes) if _is_sweep(base, line) else ()
    return Checked(line, configs, warnings_of(jobs), sweep_words, tuple(given))


def _is_sweep(base: DictConfig, line: CommandLine) -> bool:
    """Whether several jobs are asked for, on the command line or in an overlay."""
    return bool(line.multirun or base.hydra.mode == RunMode.MULTIRUN)


def _sweep_words(given: list[Override], base: DictConfig, axes: dict[str, Override]) -> tuple[str, ...]:
    words = ["hydra/sweeper=grid"] if base.hydra.runtime.choices["hydra/sweeper"] == "basic" else []
    asked_for = any(override.key_or_group == "hydra.sweep.dir" for override in given)
    if not asked_for and base.hydra.sweep.dir == _UNNAMED:
        overlay = next((str(override.value()) for override in given if override.key_or_group == "sweeps"), None)
        words.append(f"hydra.sweep.dir=multirun/{sweep_name(overlay, list(axes))}")
    return tuple(words)


def _axes(
    base: DictConfig, given: list[Override], line: CommandLine, loader: ConfigLoader, takes_many: bool
) -> dict[str, Override]:
    """Settings with several values, from the overlay and from the command line.

    Raises:
        ConfigError: there are some, and no sweep is asked for.
    """
    typed = {override.get_key_element(): override for override in given if override.is_sweep_override()}
    of_overlay = _axes_of_overlay(base, given, loader)
    if not _is_sweep(base, line):
        if of_overlay:
            raise _needs_multirun_for_overlay(given, takes_many)
        if typed:
            raise _needs_multirun(next(iter(typed.values())), takes_many)
    axes = of_overlay | typed
    check_launching(base, list(axes.values()))
    launcher = base.hydra.runtime.choices["hydra/launcher"]
    if launcher != "basic" and not _is_sweep(base, line):
        remedy = "add -m" if takes_many else "leave it out"
        raise ConfigError(f"hydra/launcher={launcher} starts the jobs of a sweep; {remedy}")
    return axes


def _further(start: DictConfig, first: list[str], key: str, axis: Override) -> Iterator[tuple[str, RunConfig]]:
    """For each further value of an axis its word, and the job with it and the first values of the other axes."""
    replaced, *words = _choices(axis)
    others = [word for word in first if word != replaced]
    for word, value in zip(words, overrides.values_of(axis)[1:], strict=True):
        if key in schema_settings() and isinstance(value, int | float):
            composed = with_value(start, key, value)
        else:
            composed = compose_config([*others, word])
        yield word, _checked_job(composed, others, [word])


def _checked_job(composed: DictConfig, others: list[str], varied: list[str]) -> RunConfig:
    """One job checked, from its composed config and its words, those of which the sweep has further values last.

    Raises:
        ConfigError: a value is not allowed; where each is by itself, the line says which do not go with the others.
    """
    try:
        return checked_config(composed, [*others, *varied])
    except ConfigError as error:
        if varied and _passes(others) and all(_passes([word]) for word in varied):
            at_fault = [word for word in varied if not _passes([*others, word])]
            raise _not_together(at_fault or varied, error) from error
        raise


def _passes(words: list[str]) -> bool:
    try:
        checked_config(compose_config(words), words)
    except ConfigError:
        return False
    return True


def _jobs_of_grid(start: RunConfig, further: list[list[tuple[str, RunConfig]]]) -> tuple[RunConfig, ...]:
    """Every job of a grid, checked, from what each value of each axis changes: composing all would take too long.

    Raises:
        ConfigError: values of several axes do not go together.
    """
    changes = [[(word, _changed(start, config)) for word, config in axis] for axis in further]
    jobs = []
    # The first to fail differs from the start in nothing that is not at fault: with less, it came before.
    for job in itertools.product(*([None, *axis] for axis in changes)):
        values = [value for value in job if value is not None]
        try:
            jobs.append(with_settings(start, {key: value for _, changed in values for key, value in changed.items()}))
        except ConfigError as error:
            raise _not_together([word for word, _ in values], error) from error
    return tuple(jobs)


def _not_together(words: Sequence[str], error: ConfigError) -> ConfigError:
    return ConfigError(
        f"the job of this sweep with {' '.join(words)} is not allowed: {error}; or make two sweeps of it"
    )


def _changed(start: RunConfig, config: RunConfig) -> dict[str, Any]:
    """The settings that are not those of the start, by their full names."""
    before = flat(asdict(start))
    return {key: value for key, value in flat(asdict(config)).items() if value != before[key]}


def _axes_of_overlay(base: DictConfig, given: list[Override], loader: ConfigLoader) -> dict[str, Override]:
    """The axes that an overlay in sweeps/ sets; what the command line gives for the same key goes before."""
    params = OmegaConf.select(base, "hydra.sweeper.params") or {}
    axes = overrides.read((f"{key}={value}" for key, value in params.items()), loader)
    keys = {override.get_key_element() for override in given}
    return {axis.get_key_element(): axis for axis in axes if axis.get_key_element() not in keys}


def _word(override: Override) -> str:
    assert override.input_line is not None, "made by the parser"
    return override.input_line


def _choices(axis: Override) -> list[str]:
    """An axis as one override for each of its values."""
    if not axis.is_sweep_override():
        return [_word(axis)]
    values = overrides.values_of(axis) if is_interval(axis) else axis.sweep_string_iterator()
    return [f"{axis.get_key_element()}={value}" for value in values]


def _needs_multirun_for_overlay(given: list[Override], takes_many: bool) -> ConfigError:
    overlays = {override.key_or_group: _word(override) for override in given}
    word = overlays.get("sweeps") or overlays.get("experiments") or "hydra.sweeper.params"
    return ConfigError(f"'{shown(word)}' is a sweep: {'add -m' if takes_many else 'leave it out'}")


def _needs_multirun(axis: Override, takes_many: bool) -> ConfigError:
    key, word = axis.key_or_group, shown(_word(axis))
    setting = schema_settings().get(key)
    if setting is not None and "list" in setting.allowed:
        or_sweep = ", or -m for a sweep over its values" if takes_many else ""
        return ConfigError(f"'{word}' needs brackets for a list, {key}=[...]{or_sweep}")
    allowed = f"{key} must be {setting.allowed}" if setting is not None else ""
    if not takes_many:
        return ConfigError(f"'{word}' gives several values: give one value{allowed and f'; {allowed}'}")
    return ConfigError(
        f"'{word}' gives several values: add -m to run one job for each{allowed and f'; without it, {allowed}'}"
    )


def _check_places(config: RunConfig) -> None:
    name, path = config.model.name, config.data.path
    places = {"model.name": name, "data.path": path, "data.cache_dir": config.data.cache_dir}
    for key, value in (places | {"warm_start": config.warm_start}).items():
        safety.refuse_long_names(key, value)
    if path is not None and not Path(path).exists():
        raise ConfigError(f"data.path={shown(path)} does not exist; it must be a local folder or file")
    if config.warm_start is not None and not Path(config.warm_start).is_dir():
        raise ConfigError(
            f"warm_start={shown(config.warm_start)} does not exist; it must be the folder of a finished run, or of an "
            "imported adapter"
        )
    if is_path(name) and not folder_of(name).is_dir():
        raise ConfigError(f"model.name={shown(name)} does not exist; it must be a local folder, a hub id, or tiny")
    if is_path(name) and not is_saved_model(folder_of(name)):
        raise ConfigError(f"model.name={shown(name)} has no config.json; it must be a folder saved by transformers")


def _check_widths(configs: Sequence[RunConfig]) -> None:
    adapted = [config for config in configs if config.lora.method == "lora"]
    widths = {config.model.name: _width(config.model.name) for config in adapted}
    rank = max((config.rank for config in adapted), default=0)
    for name, width in widths.items():
        if width is not None and rank > width:
            raise ConfigError(
                f"rank={rank} is larger than the layers of model '{shown(name)}': rank must be from 1 to {width}"
            )


def _width(model: str) -> int | None:
    """The hidden size of a model whose config lies on this machine; None where it does not or does not say."""
    config = folder_of(model) / "config.json"
    if not config.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"model.name={shown(model)}: its config.json is not JSON ({error})") from error
    return next((facts[key] for key in _WIDTH_KEYS if isinstance(facts.get(key), int)), None)


def _check_effect(given: list[Override], configs: Sequence[RunConfig]) -> None:
    methods = {config.lora.method for config in configs}
    if "lora" in methods:
        return
    for override in given:
        if of_adapters_only(override.key_or_group):
            raise ConfigError(
                f"'{shown(override.input_line)}' has no effect with lora={'/'.join(sorted(methods))}; leave it out"
            )
