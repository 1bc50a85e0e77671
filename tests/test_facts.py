"""The facts that are kept of runs: each machine's run of a job stays, and no file of another form is written over."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import configuration, write_run

from experiments import facts

VERSIONS = {"lightning-lora": "0.1.0", "torch": "2", "transformers": "5"}
RIGHT = np.array([True, True, False, True])


def a_run(folder: Path, job: str, device: str = "cpu", precision: str = "32-true", **fields: Any) -> None:
    config = configuration("qv", seed=0)
    write_run(folder, RIGHT, config=config, job=job, device=device, precision=precision, versions=VERSIONS, **fields)


def collected(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["facts", *map(str, words)])
    facts.main()


def runs_in(out: Path) -> list[tuple[str, str, str, float]]:
    runs = json.loads(out.read_text())["runs"]
    return sorted((run["job_id"], run["device"], run["precision"], run["score"]) for run in runs)


def test_a_job_of_two_machines_is_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path / "runs" / "a", "j")
    a_run(tmp_path / "runs" / "b", "j", device="gpu")
    a_run(tmp_path / "runs" / "c", "j", device="gpu", precision="bf16-frozen")
    a_run(tmp_path / "runs" / "d", "j", device="gpu", precision="bf16-frozen")
    a_run(tmp_path / "runs" / "e", "k", status="failed")
    out = tmp_path / "results.json"
    collected(monkeypatch, tmp_path / "runs", "--out", out)
    assert runs_in(out) == [
        ("j", "cpu", "32-true", 0.75),
        ("j", "gpu", "32-true", 0.75),
        ("j", "gpu", "bf16-frozen", 0.75),
    ]
    said = capsys.readouterr().out
    assert "3 runs, 1 replaced" in said
    assert "1 did not finish" in said


def test_what_is_added_replaces_the_same_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    a_run(tmp_path / "first" / "a", "j")
    a_run(tmp_path / "first" / "b", "j", device="gpu")
    collected(monkeypatch, tmp_path / "first", "--add", "--out", out)  # there is no file yet
    a_run(tmp_path / "second" / "a", "j", score=0.5)
    collected(monkeypatch, tmp_path / "second", "--add", "--out", out)
    assert runs_in(out) == [("j", "cpu", "32-true", 0.5), ("j", "gpu", "32-true", 0.75)]
    assert "2 runs, 1 replaced" in capsys.readouterr().out
    collected(monkeypatch, tmp_path / "second", "--out", out)
    assert runs_in(out) == [("j", "cpu", "32-true", 0.5)], "without --add it is a new file"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            '{"runs": [{"job_id": "j", "device": "cpu", "precision": "a", "task": "t", "method": "qv", "seed": 0}]}',
            "lr",
        ),
        ('{"findings": []}', "no facts of runs"),
        ("[1, 2]", "no facts of runs"),
        ("{", "no facts of runs"),
    ],
)
def test_a_file_of_another_form_stays_as_it_is(
    held: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(tmp_path / "runs" / "a", "j")
    out = tmp_path / "results.json"
    out.write_text(held)
    with pytest.raises(SystemExit, match=rf"results\.json .*{said}"):
        collected(monkeypatch, tmp_path / "runs", "--add", "--out", out)
    assert out.read_text() == held


def test_nor_can_be_added_to_the_facts_of_real_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path / "runs" / "a", "j")
    real = Path(facts.__file__).with_name("real_tasks") / "results.json"
    (tmp_path / "copy.json").write_bytes(real.read_bytes())
    with pytest.raises(SystemExit, match="runs without device, precision, lr"):
        collected(monkeypatch, tmp_path / "runs", "--add", "--out", tmp_path / "copy.json")
