"""`train.py` as a process of its own, on a run that takes seconds and can be stopped between any two of its steps."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "500"}
WORDS = [
    "lora.dropout=0.1",
    "data.train_rows=64",
    "batch_size=8",
    "epochs=2",
    "trainer.checkpoint_every=1",
    "trainer.limit_val_batches=2",
    "trainer.accelerator=cpu",
    "trainer.progress_bar=false",
    "logger=disabled",
    "merge.save=false",
]
EQUAL = ("job_id", "status", "score", "best_score", "metrics", "parameters", "merge_check")
"""What two records of the same job have in common, whenever and however often it was started."""


def start(
    *words: str, cwd: Path, environment: Mapping[str, str] = ENVIRONMENT, new_session: bool = False
) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "train.py"), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, start_new_session=new_session, **pipes)


def to_the_end(*words: str, cwd: Path, environment: Mapping[str, str] = ENVIRONMENT) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    process = start(*words, cwd=cwd, environment=environment)
    output, errors = process.communicate()
    return process.returncode, output, errors
