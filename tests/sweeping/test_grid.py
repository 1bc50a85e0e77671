"""`python train.py -m`: what a grid trains, and how a sweep begins."""

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from train_command import ENVIRONMENT, WORDS, start, to_the_end

from lightning_lora.reporting import records_below


def test_a_baseline_is_trained_once_whatever_the_ranks_of_the_grid(tmp_path: Path) -> None:
    """Side by side, where the jobs would else wait for one another."""
    side_by_side = ["hydra/launcher=local", "hydra.launcher.n_parallel=2"]
    words = ["-m", "lora=full,qv", "rank=4,8", "trainer.max_steps=2", "hydra.sweep.dir=grid", *side_by_side]
    status, output, errors = to_the_end(*words, *WORDS[1:], cwd=tmp_path)
    assert status == 0, errors
    records = records_below(tmp_path / "grid").values()
    trained = Counter((record.config["lora"]["method"], record.config["rank"], record.status) for record in records)
    assert trained == {(*job, "finished"): 1 for job in (("full", 4), ("lora", 4), ("lora", 8))}
    assert "[3/3]" in output
    assert "was there" not in output


def test_a_second_process_leaves_a_job_to_the_first_and_takes_its_result(tmp_path: Path) -> None:
    words = ["-m", "seed=0", "hydra.sweep.dir=sweep", *WORDS]
    first = start(*words, cwd=tmp_path)
    while not list(tmp_path.glob("sweep/*/checkpoints/last.ckpt")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)  # so that it is at work when the second comes to the job
    second = start(*words, cwd=tmp_path)
    assert second.stderr is not None
    try:
        said = second.stderr.readline()
    finally:
        first.send_signal(signal.SIGCONT)
    (folder,) = tmp_path.glob("sweep/*/")
    assert said == f"{folder}: another process is at work on this job; waiting for it\n"
    assert "was there" not in first.communicate()[0]
    written = (folder / "predictions.parquet").stat().st_mtime_ns
    output, errors = second.communicate()
    assert (first.returncode, second.returncode, errors) == (0, 0, "")
    assert "was there" in output
    assert (folder / "predictions.parquet").stat().st_mtime_ns == written


def stopped(number: int, sweep: Path, job: int, *words: str) -> int:
    """The exit status of a sweep that gets a signal while it trains its job of this number, counted from 0."""
    process = start(*words, f"hydra.sweep.dir={sweep}", cwd=sweep.parents[1])
    while len(list(sweep.glob("*/checkpoints/last.ckpt"))) <= job:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate()
    return process.returncode


def report(sweep: Path) -> str:
    program = "import sys; from lightning_lora.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "report", sweep.name, "--no-timings", "--format", "csv"]
    return subprocess.run(command, cwd=sweep.parent, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_the_same_command_goes_on_with_a_sweep_and_a_wider_grid_takes_what_is_there(tmp_path: Path) -> None:
    words = ["-m", "rank=4,8", "alpha=8,16", *WORDS]
    undisturbed = tmp_path / "undisturbed" / "sweep"  # not beside the other: that would take its jobs over
    status, output, errors = to_the_end(*words, f"hydra.sweep.dir={undisturbed}", cwd=tmp_path)
    assert status == 0, errors
    assert "was there" not in output
    assert "rank 8, alpha 16" in output, "the table"

    sweep = tmp_path / "disturbed" / "sweep"
    assert stopped(signal.SIGTERM, sweep, 0, *words) == 143
    assert stopped(signal.SIGKILL, sweep, 2, *words) == -signal.SIGKILL
    words.append(f"hydra.sweep.dir={sweep}")
    status, output, errors = to_the_end(*words, cwd=tmp_path)
    assert status == 0, errors
    assert output.count("was there") >= 1
    assert report(sweep) == report(undisturbed)

    written = {file: file.stat().st_mtime_ns for file in sweep.glob("*/predictions.parquet")}
    status, output, errors = to_the_end(*words, "rank=4,8,16", cwd=tmp_path)
    assert status == 0, errors
    assert (output.count("was there"), len(list(sweep.glob("*/predictions.parquet")))) == (4, 6)
    assert {file: file.stat().st_mtime_ns for file in written} == written


@pytest.mark.parametrize("sweeper", ["grid", "optuna"])
def test_a_full_disk_at_the_start_of_a_sweep_is_one_line(sweeper: str, tmp_path: Path) -> None:
    """A file size limit stands in for the full disk; what an earlier start has written stays."""
    (tmp_path / "sweep").mkdir()
    config = tmp_path / "sweep" / "multirun.yaml"
    config.write_text("old")
    program = (
        "import resource, sys; from lightning_lora.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); main(sys.argv[1:])\n"
    )
    words = ["train", "-m", "seed=0,1", f"hydra/sweeper={sweeper}", "hydra.sweep.dir=sweep"]
    command = [sys.executable, "-c", program, *words]
    ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    said = "cannot write sweep/multirun.yaml: File too large; raise the limit on the size of files (ulimit -f)"
    assert (ended.stderr, ended.returncode) == (f"error: {said}\n", 2)
    assert config.read_text() == "old"
