"""The commands of experiments: a mistake is one line before anything is measured, and what was measured is written."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from synthetic_runs import configuration, write_run

from experiments import on_glue
from experiments.mixed_batch.run import one_for_each_task
from experiments.precision import compare

ROOT = Path(__file__).resolve().parents[1]
SWEEPS_OF = {"grid": ("sst2", "stsb")}


def never(*_: object, **__: object) -> NoReturn:
    pytest.fail("nothing was to be started")


def tabled(monkeypatch: pytest.MonkeyPatch, *tasks: str) -> None:
    words = ["run", "grid", "--model", "m", "--glue", "glue", "--into", "into", "--tasks", *tasks]
    monkeypatch.setattr(sys, "argv", words)
    on_glue.run_tables("an experiment", lambda table, task: [["seed=0"]], SWEEPS_OF)


def test_a_task_that_is_misspelt_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_glue.subprocess, "run", never)
    with pytest.raises(SystemExit, match="2"):
        tabled(monkeypatch, "sst2", "stbs")
    assert "grid has no task stbs: choose from sst2, stsb" in capsys.readouterr().err


def test_the_tasks_of_a_table_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        started.extend(word for word in command if word.startswith("data="))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(on_glue.subprocess, "run", run)
    with pytest.raises(SystemExit, match="0"):
        tabled(monkeypatch, "stsb", "sst2")
    assert started == ["data=stsb", "data=sst2"]


def a_run(folder: Path, seed: int, precision: str, right: int, **fields: Any) -> None:
    """Of ten rows so many are right."""
    config = configuration("qv", seed=seed)
    write_run(folder, np.arange(10) < right, config=config, precision=precision, **fields)


def compared(monkeypatch: pytest.MonkeyPatch, folder: Path, out: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", str(folder), "--out", str(out)])
    compare.main()


def test_a_single_seed_has_no_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out.json"
    a_run(runs / "a", 0, compare.EXACT, 8)
    a_run(runs / "b", 0, compare.ROUNDED, 7)
    for name in ("c", "d"):  # in neither of the two, and so in nobody's way
        a_run(runs / name, 0, "bf16-mixed", 3)
    compared(monkeypatch, runs, out)
    assert "| 1 | 80.0 ± – | 70.0 ± – | -10.0 (–) | 1.00 |" in capsys.readouterr().out
    assert [pair["seed"] for pair in json.loads(out.read_text())["pairs"]] == [0]
    a_run(runs / "e", 1, compare.EXACT, 6)
    a_run(runs / "f", 1, compare.ROUNDED, 7)
    compared(monkeypatch, runs, out)
    # Differences of -10 and 10 points: Student's 12.7062 at one degree of freedom, times 14.142 / sqrt(2).
    assert "| 2 | 70.0 ± 14.1 | 70.0 ± 0.0 | +0.0 (-127.1 to +127.1) | 1.00 |" in capsys.readouterr().out


def test_a_second_run_of_a_pair_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out.json"
    a_run(runs / "a", 0, compare.EXACT, 8, job="one")
    a_run(runs / "b", 0, compare.ROUNDED, 7)
    a_run(runs / "c", 0, compare.EXACT, 9, job="other")
    with pytest.raises(SystemExit, match=r"seed 0, was run twice in 32-true \(jobs one and other\)"):
        compared(monkeypatch, runs, out)
    assert not out.exists()


def test_a_folder_without_pairs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="holds no seed of a task"):
        compared(monkeypatch, tmp_path, tmp_path / "out.json")
    a_run(tmp_path / "a", 0, compare.EXACT, 8)
    with pytest.raises(SystemExit, match="both in 32-true and in bf16-frozen"):
        compared(monkeypatch, tmp_path, tmp_path / "out.json")


def test_a_batch_of_several_tasks_takes_one_run_of_each(tmp_path: Path) -> None:
    a_run(tmp_path / "a", 0, "32-true", 8)
    a_run(tmp_path / "b", 0, "32-true", 8, task="toy_acceptability")
    a_run(tmp_path / "c", 1, "32-true", 8)
    folders = [tmp_path / name for name in "abc"]
    assert one_for_each_task(folders[:2]) == {"toy_sentiment": folders[0], "toy_acceptability": folders[1]}
    with pytest.raises(SystemExit, match=r"/a and .*/c are both runs of toy_sentiment"):
        one_for_each_task(folders)


FORKED = """
import os, signal, sys
from pathlib import Path
from experiments.forked_training import start, wait
log = Path("log")
print(wait(start(["rnk=4"], log)))
child = start(["hydra.run.dir=run", "logger=disabled"], log)
os.kill(child, signal.SIGKILL)
print(wait(child))
"""
KILLED = """
from pathlib import Path
from experiments.kill_and_resume import run
run.HERE = Path(".")
same = {"killed": True, "exit_status": 0, "different": [], "checkpoint_step": 2, "files_half_written": 0}
run.record({"commit": "c"}, [same], 1.0)
run.record({"commit": "c"}, [same, same | {"different": ["score"]}], 1.0)
"""


def in_a_process(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Of its own: what is forked is no copy of pytest, and the variables that these modules set stay theirs."""
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    return subprocess.run(
        [sys.executable, "-c", path + code], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def test_a_forked_training_ends_with_its_status_or_its_signal(tmp_path: Path) -> None:
    ended = in_a_process(FORKED, tmp_path)
    assert ended.stdout.split() == ["2", "-9"], ended.stderr
    assert "rnk" in (tmp_path / "log").read_text()


def test_a_killed_run_that_ends_otherwise_is_a_failure(tmp_path: Path) -> None:
    ended = in_a_process(KILLED, tmp_path)
    assert ended.stdout.splitlines() == [
        f"{same} killed runs ended as the undisturbed one" for same in ("1 of 1", "1 of 2")
    ]
    assert ended.returncode == 1, ended.stderr
    facts = json.loads((tmp_path / "results.json").read_text())
    assert (facts["commit"], facts["kills"], facts["resumed_and_the_same"]) == ("c", 2, 1)
