"""`hydra/launcher=slurm` against a Slurm of small scripts (tests/fakes/slurm): real jobs under the real submitit."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from train_command import ENVIRONMENT, EQUAL, ROOT, WORDS, start

from lightning_lora.reporting import read_record, records_below

COMMANDS = ROOT / "tests" / "fakes" / "slurm"
SWEEP = ["-m", "hydra/launcher=slurm", "hydra.sweep.dir=sweep"]
LONG = [word for word in WORDS if not word.startswith("data.train_rows")] + ["data.train_rows=1024"]
"""256 steps, each with its checkpoint: seconds in which a job can be caught, where three share two busy cores."""


def with_slurm(place: Path) -> dict[str, str]:
    (place / "slurm").mkdir(exist_ok=True)
    return {**ENVIRONMENT, "PATH": f"{COMMANDS}:{os.environ['PATH']}", "FAKE_SLURM": str(place / "slurm")}


def cancel(job: str, number: int, place: Path) -> None:
    command = ["scancel", job, "--signal", signal.Signals(number).name]
    subprocess.run(command, env=with_slurm(place), check=True)


def told(place: Path, ending: str) -> dict[str, str]:
    """What Slurm says of its jobs when all have ended: their states, or how often they were started."""
    states = ["RUNNING"]
    while "RUNNING" in states:  # a job's result is there before its process has ended
        states = [path.read_text().strip() for path in (place / "slurm").glob("*.state")]
    return {path.stem: path.read_text().strip() for path in sorted((place / "slurm").glob(f"*.{ending}"))}


def folder_of(lr: float, sweep: Path) -> Path | None:
    return next((folder for folder, record in records_below(sweep).items() if record.config["lr"] == lr), None)


def when_training(cancelled: dict[float, Callable[[], None]], sweep: Path, process: subprocess.Popen[str]) -> None:
    """Do to each job what is to be done to it after its first steps, in whichever order Slurm starts them."""
    waiting = dict(cancelled)
    while waiting:
        assert process.poll() is None, process.communicate()
        for lr in list(waiting):
            folder = folder_of(lr, sweep)
            if folder is not None and (folder / "checkpoints" / "last.ckpt").exists():
                waiting.pop(lr)()
        time.sleep(0.005)


def results(folder: Path) -> dict[str, object]:
    record = read_record(folder)
    files = [folder / "predictions.parquet", *sorted((folder / "adapter").iterdir())]
    # The first line of the log has the settings, which name a run after its sweep.
    steps = (folder / "metrics.jsonl").read_text().splitlines()[1:]
    fields = {name: getattr(record, name) for name in EQUAL}
    return fields | {file.name: file.read_bytes() for file in files} | {"steps": steps}


@pytest.mark.slow
def test_an_array_with_a_job_that_is_preempted_one_that_is_killed_and_one_that_diverges(tmp_path: Path) -> None:
    whole = start(*LONG, "hydra.run.dir=whole", cwd=tmp_path)
    assert (whole.communicate()[1], whole.returncode) == ("", 0)

    sweep = tmp_path / "sweep"
    process = start(*SWEEP, "lr=1e-3,2e-3,1e30", *LONG, cwd=tmp_path, environment=with_slurm(tmp_path))

    def preempt() -> None:
        cancel("1000_0", signal.SIGTERM, tmp_path)  # in Slurm's order
        cancel("1000_0", signal.SIGUSR2, tmp_path)

    cancelled = {1e-3: preempt, 2e-3: lambda: cancel("1000_1", signal.SIGKILL, tmp_path)}
    when_training(cancelled, sweep, process)
    _, errors = process.communicate()

    assert process.returncode == 1, errors
    assert told(tmp_path, "state") == {"1000_0": "COMPLETED", "1000_1": "FAILED", "1000_2": "FAILED"}
    assert told(tmp_path, "starts") == {"1000_0": "2", "1000_1": "1", "1000_2": "1"}
    status = {record.config["lr"]: record.status for record in records_below(sweep).values()}
    assert status == {1e-3: "finished", 2e-3: "failed", 1e30: "diverged"}
    for lost in ("1000_1", "1000_2"):
        assert f"Slurm job {lost} failed: " in errors
    assert "Slurm job 1000_0 failed" not in errors

    preempted = folder_of(1e-3, sweep)
    assert preempted is not None
    assert results(preempted) == results(tmp_path / "whole"), "to the bit"
    log = next(sweep.rglob("1000_0_0_log.err")).read_text()
    assert "Bypassing signal SIGTERM" in log
    assert "Caught signal SIGUSR2" in log


@pytest.mark.slow
def test_a_search_in_slurm(tmp_path: Path) -> None:
    """Batches of two; the second is one job, which is no array."""
    search = ["hydra/sweeper=optuna", "hydra.sweeper.sampler=random", "hydra.sweeper.n_jobs=2"]
    small = [word for word in WORDS if not word.startswith("epochs")] + ["epochs=1"]
    words = [*SWEEP, *search, "hydra.sweeper.n_trials=3", "lr=1e-3,1e30", *small]
    process = start(*words, cwd=tmp_path, environment=with_slurm(tmp_path))
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    states = told(tmp_path, "state")
    assert list(states) == ["1000_0", "1000_1", "1001"]
    done = sum(state == "COMPLETED" for state in states.values())
    assert f"3 of 3 trials ended, {done} with a result, {3 - done} failed" in output
    assert 0 < done < 3, "with this seed both values are tried"


@pytest.mark.slow
def test_a_job_of_a_search_that_is_killed_is_recorded_as_failed(tmp_path: Path) -> None:
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "lr=choice(2e-3)"]
    process = start(*SWEEP, *search, *LONG, cwd=tmp_path, environment=with_slurm(tmp_path))
    killed = {2e-3: lambda: cancel("1000", signal.SIGKILL, tmp_path)}
    when_training(killed, tmp_path / "sweep", process)
    output, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "1 of 1 trials ended, 0 with a result, 1 failed" in output
    (record,) = records_below(tmp_path / "sweep").values()
    assert record.status == "failed"


@pytest.mark.slow
def test_killed_before_it_has_opened_its_record_a_job_tells_of_this_start(tmp_path: Path) -> None:
    for number in ("1000", "1001"):
        process = start(*SWEEP, "lr=2e-3", *LONG, cwd=tmp_path, environment=with_slurm(tmp_path))
        pid = tmp_path / "slurm" / f"{number}.pid"
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        cancel(number, signal.SIGKILL, tmp_path)
        _, errors = process.communicate()
        assert process.returncode == 1, errors
        (record,) = records_below(tmp_path / "sweep").values()
        assert record.status == "failed"
        assert str(record.error).startswith(f"Job {number} ")


def test_what_slurm_refuses_is_one_line(tmp_path: Path) -> None:
    words = [*SWEEP, "hydra.launcher.partition=none", "rank=4,8", *WORDS]
    process = start(*words, cwd=tmp_path, environment=with_slurm(tmp_path))
    output, errors = process.communicate()
    assert (process.returncode, output) == (2, "")
    refusal = "error: Slurm refuses the jobs: sbatch: error: invalid partition specified: none"
    assert refusal in errors.splitlines()
    assert "Traceback" not in errors
