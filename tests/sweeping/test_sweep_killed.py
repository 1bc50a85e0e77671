"""A sweep of several processes that is killed outright, and can tell its jobs nothing."""

import os
import subprocess
import sys
from pathlib import Path

from processes import descendants_of, is_alive, until
from train_command import ENVIRONMENT, ROOT, WORDS, to_the_end

from lightning_lora.reporting import read_record

SWEEP = ["-m", "hydra/launcher=local", "hydra.launcher.n_parallel=2", "hydra.sweep.dir=sweep", "seed=0,1"]
LONG = [word for word in WORDS if not word.startswith("data.train_rows")] + ["data.train_rows=1024"]
"""256 steps, each with its checkpoint: seconds in which both jobs can be caught."""


def test_its_jobs_save_and_stop_and_the_next_start_goes_on_with_them(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *SWEEP, *LONG]
    with (tmp_path / "said").open("w") as said:  # a pipe would be open until the jobs have ended
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=said, stderr=said)

    def both_train() -> bool:
        assert process.poll() is None, (tmp_path / "said").read_text()
        return len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 2

    until(both_train, "two jobs to train")
    started = descendants_of(process.pid)
    assert len(started) >= 3, "two jobs, and what forks them"
    process.kill()
    process.wait()
    until(lambda: not any(map(is_alive, started)), "the jobs to stop with their sweep")

    folders = [file.parent for file in tmp_path.glob("sweep/*/result.json")]
    records = [read_record(folder) for folder in folders]
    assert [(record.status, record.error) for record in records] == [("interrupted", "stopped by SIGTERM")] * 2
    for folder in folders:
        os.link(folder / "metrics.jsonl", tmp_path / folder.name)
    status, _, errors = to_the_end(*SWEEP, *LONG, cwd=tmp_path)
    assert status == 0, errors
    assert [read_record(folder).status for folder in folders] == ["finished"] * 2
    for folder in folders:
        assert (folder / "metrics.jsonl").samefile(tmp_path / folder.name), "starting anew, a job begins another log"
