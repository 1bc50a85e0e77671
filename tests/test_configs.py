"""Every option, overlay and sweep axis in the tree composes into a valid config."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from lightning_lora.cli import precheck
from lightning_lora.cli.options import groups
from lightning_lora.config import SCHEDULES, to_run_config
from lightning_lora.targets import ROLE_SETS
from lightning_lora.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "conf").glob("*/*.yaml"))
# The definitions that W&B's agent reads lie beside the sweeps: see test_sweeps.py.
OVERLAYS = sorted(
    path
    for folder in ("sweeps", "experiments")
    for path in (ROOT / folder).rglob("*.yaml")
    if path.parent.name != "wandb"
)
TOP_LEVEL = {"rank", "alpha", "lr", "seed", "epochs", "batch_size"}
# What a task of the user's own cannot do without.
COMPANIONS = {"data=custom": ["data.path=.", "data.text_columns=[text]", "data.labels=[no,yes]"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_option_composes_to_what_its_name_says(path: Path) -> None:
    group, option = path.parent.name, path.stem
    word = f"{group}={option}"
    (config,) = precheck.check([word, *COMPANIONS.get(word, [])]).configs
    if group == "data":
        assert config.data.task == option
    if group == "lora":
        assert config.lora.method == ("lora" if option in ROLE_SETS else option)
        assert set(config.lora.roles) == ROLE_SETS.get(option, set())
    if group == "optim":
        assert config.optim.schedule == option


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_overlay_composes_with_every_value_of_its_axes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert path.read_text().startswith("# @package _global_\n")
    folder, name = path.relative_to(ROOT).parts[0], str(Path(*path.relative_to(ROOT).parts[1:]).with_suffix(""))
    axes = (yaml.safe_load(path.read_text()).get("hydra") or {}).get("sweeper", {}).get("params", {})
    configs = precheck.check([*(["-m"] if axes else []), f"+{folder}={name}"]).configs
    lists = [str(values).split(",") for values in axes.values() if "(" not in str(values)]
    assert len(configs) >= 1 + sum(len(values) - 1 for values in lists)


def test_there_are_sweeps() -> None:
    assert {path.stem for path in OVERLAYS} >= {"rank_alpha", "layer_choice"}


def test_there_is_an_option_for_every_role_set_every_task_and_every_schedule() -> None:
    assert set(groups()["lora"]) == {*ROLE_SETS, "head", "bitfit", "full"}
    assert set(groups()["data"]) == {*TASKS, "custom"}
    assert set(groups()["optim"]) == {*SCHEDULES}


def test_what_stands_at_the_top_stands_in_no_group() -> None:
    for path in FILES:
        is_global = path.read_text().startswith("# @package _global_")
        assert is_global == (path.parent.name == "debug"), path
        if not is_global:
            assert not TOP_LEVEL & set(yaml.safe_load(path.read_text())), path


def test_the_schema_is_no_option() -> None:
    with initialize_config_module("lightning_lora.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for group, options in groups().items():
            assert set(loader.get_group_options(group)) == set(options), group


def test_debug_options_win_over_other_groups() -> None:
    (config,) = precheck.check(["debug=fast", "logger=online", "epochs=7"]).configs
    assert config.trainer.fast_dev_run
    assert config.logger.wandb == "disabled"
    assert config.epochs == 7


def test_folders_and_logging_are_quiet_and_below_the_current_directory() -> None:
    with initialize_config_module("lightning_lora.conf", version_base="1.3"):
        config = compose("train", return_hydra_config=True)
        assert config.hydra.run.dir.startswith("runs/")
        assert config.hydra.sweep.dir.startswith("multirun/")
        assert config.hydra.job.chdir is False
        assert config.hydra.job_logging.root.level == "WARNING"
        assert list(config.hydra.job_logging.handlers) == ["console"]
    assert to_run_config(config).rank == 8
