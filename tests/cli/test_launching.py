"""How jobs are launched is checked with the command line: settings, extras, and jobs that cannot be launched so."""

import re
import sys
from pathlib import Path

import pytest

from lightning_lora.cli import precheck
from lightning_lora.settings import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("optuna", ["-m", "hydra/sweeper=optuna", "rank=4,8"], "optuna"),
        ("submitit", ["-m", "hydra/launcher=slurm", "rank=4,8"], "slurm"),
        ("hydra_plugins.hydra_submitit_launcher", ["-m", "hydra/launcher=slurm", "rank=4,8"], "slurm"),
    ],
)
def test_a_missing_extra_is_named(module: str, words: list[str], extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(ROOT / "tests" / "fakes" / "slurm"))
    assert precheck.check(words).configs
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'lightning-lora\[{extra}\]'"):
        precheck.check(words)


@pytest.mark.parametrize(
    "setting", ["n_parallel=0", "gpus=[]", "retries=-1", "time_limit_minutes=nan", "time_limit_minutes=-1.5"]
)
def test_settings_of_the_launcher_are_checked_before_it_starts(setting: str) -> None:
    key, _, value = setting.partition("=")
    words = ["-m", "hydra/launcher=local", "seed=0,1"]
    assert precheck.check([*words, f"hydra.launcher.{key}={'[0]' if key == 'gpus' else 1}"]).configs
    with pytest.raises(ConfigError) as error:
        precheck.check([*words, f"hydra.launcher.{setting}"])
    assert str(error.value).startswith(f"hydra.launcher.{key}={value} is not allowed: hydra.launcher.{key} must be ")


@pytest.mark.parametrize("chosen", [[], ["hydra/sweeper=basic"]], ids=" ".join)
def test_a_setting_of_an_overlay_that_the_grid_lacks_is_refused(
    chosen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra's own sweeper, in whose place the grid is put, has it."""
    (tmp_path / "sweeps").mkdir()
    overlay = tmp_path / "sweeps" / "mine.yaml"
    monkeypatch.chdir(tmp_path)
    words = ["-m", "+sweeps=mine", *chosen]
    overlay.write_text("# @package _global_\nhydra: {sweeper: {params: {seed: '0,1'}}}\n")
    assert len(precheck.check(words).configs) == 2
    overlay.write_text("# @package _global_\nhydra: {sweeper: {max_batch_size: 2, params: {seed: '0,1'}}}\n")
    with pytest.raises(ConfigError, match=r"^unknown key 'hydra\.sweeper\.max_batch_size'$"):
        precheck.check(words)


@pytest.mark.parametrize("launcher", ["submitit_slurm", "submitit_local"])
def test_launchers_of_other_packages_are_refused_with_what_to_take(launcher: str) -> None:
    with pytest.raises(ConfigError) as error:
        precheck.check(["-m", f"hydra/launcher={launcher}", "seed=0,1"])
    hint = "; slurm is submitit's, and requeues" if launcher == "submitit_slurm" else ""
    assert str(error.value) == f"hydra/launcher={launcher} is not supported: give one of basic, local, slurm{hint}"


def test_slurm_is_wanted_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="there is no sbatch on this machine"):
        precheck.check(["-m", "hydra/launcher=slurm", "rank=4,8"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["trainer.devices=2"], "trainer.devices=2"),
        (["trainer.devices=-1"], "trainer.devices=-1"),
        (["trainer.devices=[0,1]"], "trainer.devices=[0,1]"),
        (["trainer=default,ddp"], "trainer.devices=auto"),
        (["trainer.num_nodes=1,2"], "trainer.num_nodes=2"),
        (["hydra/launcher=local", "trainer.devices=2"], "trainer.devices=2"),
        (["hydra/sweeper=optuna", "trainer.devices=2"], "trainer.devices=2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_job_of_several_processes_is_none_of_a_sweep(words: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(named)} is not supported in a sweep"):
        precheck.check(["-m", "seed=0,1", *words])


def test_what_keeps_no_result_is_no_job_of_a_sweep() -> None:
    with pytest.raises(
        ConfigError, match=r"trainer\.fast_dev_run=true is not supported in a sweep: it keeps no result"
    ):
        precheck.check(["-m", "debug=fast", "seed=0,1"])


def test_slurm_starts_the_processes_of_a_job_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(ROOT / "tests" / "fakes" / "slurm"))
    words = ["hydra/launcher=slurm", "hydra.launcher.tasks_per_node=2", "seed=0,1"]
    assert precheck.check(["-m", *words, "trainer.devices=2"]).configs
    assert precheck.check(["-m", "seed=0,1", "trainer.devices=[1]"]).configs, "one device, whichever"
