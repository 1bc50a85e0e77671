"""The schema: its names are those of the rooms that own them, and every setting refuses what is not allowed."""

import math
from typing import Any, get_args

import pytest
from lightning.fabric.connector import _PRECISION_INPUT_STR
from lightning.pytorch.strategies import StrategyRegistry
from omegaconf import OmegaConf

from lightning_lora import config, merging, settings
from lightning_lora.cli import merge
from lightning_lora.cli.guidelines import guideline_warnings
from lightning_lora.config import DataConfig, LoraConfig, RunConfig, TrainerConfig, schema_settings, to_run_config
from lightning_lora.inject import BASELINES
from lightning_lora.lora import LARGEST_SCALE, LoraSpec
from lightning_lora.lora.initialisation import INITIALISATIONS
from lightning_lora.lora.scaling import SCALINGS
from lightning_lora.settings import ConfigError
from lightning_lora.targets import Role
from lightning_lora.training import wandb_logger
from lightning_lora.training.devices import KINDS
from lightning_lora.training.schedule import SCHEDULES


def test_the_names_are_those_of_the_rooms() -> None:
    assert set(config.SCALINGS) == set(SCALINGS)
    assert config.LARGEST_SCALE == LARGEST_SCALE
    assert set(config.INITIALISATIONS) == set(INITIALISATIONS)
    assert set(config.SCHEDULES) == set(SCHEDULES)
    assert set(config.METHODS) == {"lora", *BASELINES}
    assert set(config.ACCELERATORS) == set(KINDS)
    assert set(config.WANDB_MODES) == {*wandb_logger.MODES, "disabled"}, "disabled makes no logger at all"
    assert set(merge.DTYPES) == set(merging.DTYPES)
    assert schema_settings()["lora.roles"].names == tuple(Role)
    lightning_s_own = set(config.PRECISIONS) - set(config.FROZEN_BASE_PRECISIONS)
    assert lightning_s_own <= set(get_args(_PRECISION_INPUT_STR))
    assert set(config.STRATEGIES) - {"auto"} <= set(StrategyRegistry.available_strategies())


def test_defaults_are_valid_and_those_of_the_rooms() -> None:
    run = RunConfig()
    spec = LoraSpec(run.rank, run.alpha, run.lora.dropout, run.lora.scaling, run.lora.initialisation)
    assert (spec.rank, spec.effective_alpha) == (8, 16)
    assert LoraSpec(8).scaling == run.lora.scaling
    assert guideline_warnings(run) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such file\nat all"), "no such file"),
        (RuntimeError("\n\n  out of luck \n"), "out of luck"),
        (ValueError(), "ValueError"),
        (OSError(" \n"), "OSError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_the_first_line_of_an_error_says_something(error: BaseException, line: str) -> None:
    assert settings.first_line(error) == line


def test_every_key_has_a_meaning_and_a_range() -> None:
    found = schema_settings()
    assert len(found) > 50
    for key, setting in found.items():
        assert setting.doc, key
        assert setting.allowed, key


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("rank", [1, 8, 4096], [0, -3, 8.5, True, "8", math.nan]),
        ("alpha", [0.5, 16, 2**20], [0, 2**20 + 1, -1.0, math.nan, math.inf, True, "16"]),
        ("seed", [0, 1, 2**32 - 1], [-1, 2**32, 1.0, False]),
        ("lora.dropout", [0, 0.0, 0.999], [1, 1.5, -0.1, math.nan, "0.1"]),
        ("lora.roles", [["query"], ["query", "down"]], [["qurey"], ["query", "head"]]),
        ("lora.layers", [3, "3-3", [0, 2], "0-11"], [-1, "3", "4-2", "a-b", [], [1.0], True, {"a": 1}, "1-99999"]),
        ("data.train_rows", [1, 10**9], [0, -5, 2.0]),
        ("optim.betas", [[0.9, 0.999], [0, 0.5]], [[0.9], [0.9, 1.0], [0.9, 0.99, 0.9]]),
        ("optim.clip_norm", [0, 1.0], [-1, math.inf, math.nan]),
        ("trainer.devices", [1, -1, "auto", [0], [0, 3]], [0, -2, "all", [], [-1], True, 1.0]),
        ("trainer.limit_val_batches", [1, 1.0, 0.01, 500], [0, 0.0, 1.5, -1, True, "all"]),
        ("trainer.overfit_batches", [0, 0.0, 2, 0.5], [-1, 1.5, True]),
        ("trainer.max_steps", [-1, 1, 10], [0, -2]),
        ("logger.project", ["a", "x" * 128], ["", "a/b", "a#b", "x" * 129, "a\nb"]),
        ("model.name", ["tiny", "a/b"], ["", "x" * 1025, "a\0b"]),
        ("merge.save", [True, False], [1, "yes"]),
    ],
)
def test_what_a_setting_takes(key: str, good: list[Any], bad: list[Any]) -> None:
    setting = schema_settings()[key]
    for value in good:
        assert setting.accepts(value), value
    for value in bad:
        assert not setting.accepts(value), value


@pytest.mark.parametrize(
    ("given", "blocks"),
    [(5, (5,)), ("4-7", (4, 5, 6, 7)), ([3, 1, 3], (1, 3)), ("0-0", (0,)), (None, None)],
)
def test_blocks_become_a_tuple(given: Any, blocks: tuple[int, ...] | None) -> None:
    assert LoraConfig(layers=given).layers == blocks


def test_unknown_keys_are_refused_where_omegaconf_would_drop_them() -> None:
    plain = OmegaConf.structured(RunConfig)
    OmegaConf.set_struct(plain, False)
    OmegaConf.update(plain, "rank2", 8, force_add=True)
    assert isinstance(OmegaConf.to_object(plain), RunConfig)
    with pytest.raises(ConfigError, match="'rank2'; did you mean 'rank'"):
        to_run_config(plain)


def test_the_given_config_is_left_alone() -> None:
    plain = OmegaConf.structured(RunConfig)
    run = to_run_config(plain)
    run.lora.roles.append("key")
    assert plain.lora.roles == ["query", "value"]


def test_a_custom_task_needs_what_defines_it() -> None:
    given: dict[str, Any] = {"path": "x.csv", "text_columns": ["a"], "labels": ["no", "yes"]}
    assert DataConfig(task="custom", **given).labels == ["no", "yes"]
    for missing in given:
        rest = {key: value for key, value in given.items() if key != missing}
        with pytest.raises(ConfigError, match=rf"needs data\.{missing}"):
            DataConfig(task="custom", **rest)
    with pytest.raises(ConfigError, match="headline"):
        DataConfig(task="custom", **given, metrics=["accuracy"], headline="f1")


def test_settings_of_a_custom_task_have_no_effect_elsewhere() -> None:
    for name in ("text_columns", "label_column", "labels", "metrics", "headline", "train_split", "dev_splits"):
        value = ["accuracy"] if name == "metrics" else "accuracy" if name == "headline" else ["a"]
        value = value if name not in ("label_column", "train_split") else "a"
        with pytest.raises(ConfigError, match=rf"data\.{name} has no effect"):
            DataConfig(task="rte", **{name: value})


@pytest.mark.parametrize("limit", [{"limit_train_batches": 10}, {"limit_val_batches": 0.5}, {"limit_val_batches": 1}])
def test_limits_that_overfit_batches_would_replace_are_refused(limit: dict[str, Any]) -> None:
    (key,) = limit
    with pytest.raises(ConfigError, match=rf"trainer\.{key}=\S+ has no effect with trainer\.overfit_batches=2"):
        TrainerConfig(overfit_batches=2, **limit)
    assert TrainerConfig(overfit_batches=0, **limit)


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert DataConfig(path="~/glue").path == "/somewhere/glue"
    assert RunConfig(resume="~/run").resume == "/somewhere/run"
    assert RunConfig(warm_start="~/run").warm_start == "/somewhere/run"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, "null"),
        (True, "true"),
        (8.0, "8.0"),
        (8, "8"),
        (1e-4, "0.0001"),
        (["a", 1], "[a,1]"),
        ("a\nb", "a\\nb"),
        (0, "0"),
    ],
)
def test_values_are_shown_as_typed(value: Any, line: str) -> None:
    assert settings.shown(value) == line


def test_a_refused_value_is_shown_as_what_it_was() -> None:
    """That 2 must be a whole number would help nobody."""
    with pytest.raises(ConfigError, match=r"^trainer\.limit_train_batches=2\.0 is not allowed.* a whole number"):
        TrainerConfig(limit_train_batches=2.0)


def test_long_values_are_cut() -> None:
    assert len(settings.shown("x" * 10_000)) == 60
