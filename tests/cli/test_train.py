"""How jobs end: statuses, tracebacks, and a sweep that goes on after a failure.

The jobs are real processes under the real Hydra; only `running` is a stand-in, whose `run` ends as the seed says. (What
the real `running.run` does is tested where it is.)
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """
import gc, json, sys, types, weakref
from dataclasses import asdict
import lightning_lora
from lightning_lora.targets import projections_for

from lightning_lora.reporting import RunRecord, write_record

class Model:
    alive = weakref.WeakSet()

    def __init__(self):
        self.alive.add(self)

def run(config, folder, resume=False):
    gc.collect()
    if Model.alive:
        print("a model of an earlier job is in memory")
    model = Model()
    if config.seed == 1:
        projections_for("no-such-architecture")  # raises this package's ValueError
    if config.seed == 2:
        int("a ValueError that is not ours")
    if config.seed == 3:
        raise KeyError("a fault in the program")
    if config.seed == 5:
        raise KeyboardInterrupt
    (folder / "ran.json").write_text(json.dumps(asdict(config)))
    return RunRecord(
        job_id="x", status="finished", config=asdict(config), task="toy_sentiment", metric="accuracy", score=0.5
    )

running = types.ModuleType("lightning_lora.running")
running.run = run
running.run_once = lambda config, folder: (run(config, folder), False)
running.reason_of = str
sys.modules["lightning_lora.running"] = lightning_lora.running = running
from lightning_lora.cli.main import main
main(sys.argv[1:])
"""


def command(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", STAND_IN, *words]
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(program, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def ran(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("ran.json"))]


def test_a_single_run(tmp_path: Path) -> None:
    result = command("train", "rank=4", "alpha=128", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "warning: outside the usual ranges" in result.stderr
    assert result.stdout == ""
    (config,) = ran(tmp_path / "runs")
    assert (config["rank"], config["alpha"]) == (4, 128.0)
    assert config["merge"] == {"at_end": True, "save": True}
    (overrides,) = (tmp_path / "runs").rglob("overrides.yaml")
    assert overrides.read_text().split() == ["-", "rank=4", "-", "alpha=128"]


def test_the_run_folder_is_the_one_asked_for(tmp_path: Path) -> None:
    assert command("train", "hydra.run.dir=mine/first", "merge.save=false", cwd=tmp_path).returncode == 0
    (config,) = ran(tmp_path / "mine" / "first")
    assert config["merge"] == {"at_end": True, "save": False}


def test_without_a_merge_none_is_saved(tmp_path: Path) -> None:
    assert command("train", "merge.at_end=false", cwd=tmp_path).returncode == 0
    assert ran(tmp_path)[0]["merge"] == {"at_end": False, "save": False}


def test_ctrl_c_before_a_run_answers_it_is_no_traceback(tmp_path: Path) -> None:
    result = command("train", "seed=5", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (130, "")


def test_each_kind_of_warning_is_a_line_and_the_run_goes_on(tmp_path: Path) -> None:
    result = command("train", "rank=4", "alpha=128", "data=rte", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    ranges, model = result.stderr.splitlines()
    assert ranges.startswith("warning: outside the usual ranges")
    assert model.startswith("warning: model=tiny ")
    assert ran(tmp_path)[0]["rank"] == 4


def test_a_users_mistake_in_a_job_is_one_line(tmp_path: Path) -> None:
    result = command("train", "seed=1", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert "no-such-architecture" in result.stderr


@pytest.mark.parametrize(("seed", "name"), [(2, "ValueError"), (3, "KeyError")])
def test_a_fault_in_the_program_keeps_its_traceback(seed: int, name: str, tmp_path: Path) -> None:
    result = command("train", f"seed={seed}", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert f"{name}: " in result.stderr


def test_a_failing_job_does_not_stop_a_sweep(tmp_path: Path) -> None:
    result = command("train", "-m", "seed=0,1,3,4", "lr=1", cwd=tmp_path)
    assert result.returncode == 1
    configs = ran(tmp_path / "multirun")
    assert [config["seed"] for config in configs] == [0, 4]
    assert [config["merge"]["save"] for config in configs] == [False, False]
    assert "no-such-architecture" in result.stdout
    assert "no-such-architecture" not in result.stderr, "a mistake of the user's has no traceback"
    assert "a fault in the program" in result.stderr
    statuses = [json.loads(path.read_text())["status"] for path in (tmp_path / "multirun").rglob("result.json")]
    assert statuses == ["failed", "failed"]
    assert result.stdout.count("failed: ") == 2
    assert result.stderr.count("warning: outside the usual ranges") == 1


def test_a_failed_job_leaves_no_model_in_memory(tmp_path: Path) -> None:
    """On a GPU that was full once, every later job would be out of memory."""
    result = command("train", "-m", "seed=1,3,0", cwd=tmp_path)
    assert len(ran(tmp_path)) == 1
    assert "in memory" not in result.stdout


def test_overrides_may_stand_on_both_sides_of_a_flag(tmp_path: Path) -> None:
    assert command("train", "rank=4", "-m", "seed=0,4", "lora=q", cwd=tmp_path).returncode == 0
    assert [(config["rank"], config["seed"]) for config in ran(tmp_path)] == [(4, 0), (4, 4)]


def test_a_further_process_of_ddp_runs_the_same_job_without_the_warning(tmp_path: Path) -> None:
    # Lightning repeats sys.argv with these three after it: no subcommand stands there any more.
    repeated = ['hydra.run.dir="runs/a b"', "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"]
    result = command("rank=4", "lr=1", *repeated, cwd=tmp_path, LOCAL_RANK="1")
    assert (result.returncode, result.stderr) == (0, "")
    assert ran(tmp_path / "runs" / "a b")[0]["rank"] == 4


def test_hydras_own_flags_work(tmp_path: Path) -> None:
    shown = command("train", "rank=4", "--cfg", "job", "lora=q", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("rank: 4\n")
    part = command("train", "--cfg", "job", "-p", "lora", "lora=q", cwd=tmp_path)
    assert "- query" in part.stdout
    assert "rank:" not in part.stdout
    for words in (["--info", "searchpath"], ["--hydra-help"], ["--version"]):
        result = command("train", *words, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, ""), words
        assert result.stdout
    assert not ran(tmp_path)


def test_the_shim_is_the_same_command(tmp_path: Path) -> None:
    words = ["rank=4", "--cfg", "job"]
    shim = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shim.stdout == command("train", *words, cwd=tmp_path).stdout
    assert len((ROOT / "train.py").read_text().splitlines()) <= 6
