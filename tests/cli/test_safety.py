"""No secret reaches a file, no code is named in a config, nothing is written outside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from lightning_lora.cli import precheck, safety
from lightning_lora.settings import ConfigError

ROOT = Path(__file__).resolve().parents[2]

SECRETS = [
    ["+wandb_api_key=CANARY"],
    ["++WANDB.API-KEY=CANARY"],
    ["logger.token=CANARY"],
    ["logger.hf-token=CANARY"],
    ["hydra.job.env_set.HF_TOKEN=CANARY"],
    ["+x={password:CANARY}"],
    ["+x={user: me, passwd: CANARY}"],
    ["+apiKey=CANARY"],
    ["+client/secret=CANARY"],
    ["+credentials=CANARY"],
    ["--token", "CANARY"],
    ["--api-key=CANARY"],
    ["-m", "rank=4,8", "+a.secret=CANARY"],
    ["rank=0", "+key=CANARY"],
    ["logger.name=hf_CANARYabcdefghijklmnop"],
    ["logger.tags=[wandb_v1_CANARYabcdefghijk]"],
    ["logger.name=${oc.env:CANARY_TOKEN}"],
]

HARMLESS = [
    ["logger.name=monkey"],
    ["logger.name=tokenizer-study"],
    ["logger.tags=[keyboard,secretary]"],
    ["logger.name=task-adaptation-study"],
    ["logger.name=risk-assessment-2024"],
    ["logger.name=hf_datasets_cache"],
]

HOSTILE = [
    "os.system",
    "posix.system",
    "subprocess.run",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "logging.os.system",
    "shutil.rmtree",
    "shutil.copyfile",
    "torch.load",
    "torch.hub.load",
    "joblib.load",
    "pandas.read_pickle",
    "numpy.load",
    "pickle.loads",
    "sympy.sympify",
    "pip.main",
    "os._exit",
    "runpy.run_path",
    "importlib.import_module",
    "functools.partial",
    "lightning.Trainer",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher.launch",
    "hydra._internal.core_plugins.basic_launcher",
    "Hydra._internal.core_plugins.basic_launcher.BasicLauncher",
]
PLACES = ["hydra.launcher._target_", "+hydra.callbacks.mine._target_", "hydra.sweeper._target_"]


@pytest.mark.parametrize("words", SECRETS, ids=" ".join)
def test_a_secret_is_refused_and_not_repeated(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="use the environment") as error:
        precheck.check(words)
    assert "CANARYabc" not in str(error.value)
    assert "CANARY" not in str(error.value).replace("CANARY_TOKEN", "")


@pytest.mark.parametrize("words", HARMLESS, ids=" ".join)
def test_a_word_that_only_contains_one_is_none(words: list[str]) -> None:
    assert precheck.check(words).configs


def test_a_secret_reaches_no_file_and_no_stream(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(ROOT / "train.py"), "rank=8", "+wandb_api_key=CANARY"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "CANARY" not in result.stdout + result.stderr
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("place", "target"), [*((PLACES[0], target) for target in HOSTILE), *((place, HOSTILE[0]) for place in PLACES[1:])]
)
def test_hostile_targets_are_refused(place: str, target: str) -> None:
    with pytest.raises(ConfigError, match="not allowed") as error:
        precheck.check([f"{place}={target}"])
    assert f"{place.lstrip('+')}={target[:50]}" in str(error.value)


def test_a_target_in_an_overlay_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    overlay = "# @package _global_\nhydra: {callbacks: {mine: {_target_: subprocess.run, args: [touch, owned]}}}\n"
    (tmp_path / "experiments" / "mine.yaml").write_text(overlay)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"hydra\.callbacks\.mine\._target_=subprocess\.run"):
        precheck.check(["+experiments=mine"])
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "word",
    [
        "hydra.job_logging.handlers.console.class=subprocess.Popen",
        "hydra.job_logging.handlers.console.stream=ext://antigravity.fly",
        "hydra/job_logging=default",
    ],
)
def test_logging_names_no_code_either(word: str) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        precheck.check([word])


def test_a_factory_for_logging_in_an_overlay_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    overlay = "# @package _global_\nhydra: {job_logging: {formatters: {mine: {'()': os.system, command: id}}}}\n"
    (tmp_path / "experiments" / "mine.yaml").write_text(overlay)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="must not name code"):
        precheck.check(["+experiments=mine"])


def test_the_stock_configs_name_what_is_on_the_list_and_nothing_else() -> None:
    named = set()
    for words in ([], ["hydra/sweeper=optuna", "hydra/launcher=slurm"], ["hydra/sweeper=grid", "hydra/launcher=local"]):
        with initialize_config_module("lightning_lora.conf", version_base="1.3"):
            config = compose("train", overrides=words, return_hydra_config=True)
        named |= {line.split(": ")[1] for line in OmegaConf.to_yaml(config).splitlines() if "_target_" in line}
        safety.refuse_targets(config)
    assert named == safety.TARGETS


def test_output_folders_that_stay_below_are_allowed(tmp_path: Path) -> None:
    for word in ("hydra.run.dir=runs/mine", f"hydra.run.dir={tmp_path}/mine", "hydra.sweep.subdir=${hydra.job.num}/x"):
        assert precheck.check([word]).configs


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_output_folders_in_a_file_are_refused(key: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"{key}=.* is not allowed: {tmp_path}/file is a file"):
        precheck.check([f"{key}={tmp_path}/file/runs"])


def test_output_folders_in_a_folder_that_is_read_only_are_refused(read_only_folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"hydra.run.dir=.* is not allowed: {read_only_folder} may not be written to"):
        precheck.check([f"hydra.run.dir={read_only_folder}/runs"])
