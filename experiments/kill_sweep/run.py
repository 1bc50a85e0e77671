"""Kill a sweep at random moments, start it again each time, and compare its report with that of one left in peace.

    python experiments/kill_sweep/run.py --kills 20

Every start is the real command line, in a process forked from this one, which has imported everything beforehand. The
kill is SIGKILL, which nothing can answer. What is found goes to results.json beside this file.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

from lightning_lora import running
from lightning_lora.cli.report import main as report
from lightning_lora.cli.train import main as train
from lightning_lora.reporting import records_below

HERE = Path(__file__).parent
WORDS = [
    "-m",
    "rank=4,8",
    "lora=qv,qkvo,all",
    "lr=1e-3,2e-3",
    "seed=0,1",
    "lora.dropout=0.1",
    "data.train_rows=512",
    "batch_size=16",
    "epochs=2",
    "trainer.checkpoint_every=2",
    "trainer.progress_bar=false",
    "trainer.accelerator=cpu",
    "logger=disabled",
]
JOBS = 24


def start(sweep: Path, log: Path) -> int:
    """Start the sweep in a forked process; returns its id."""
    if child := os.fork():
        return child
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1), os.dup2(output, 2)
    status = 1
    try:
        words = [*WORDS, f"hydra.sweep.dir={sweep}"]
        sys.argv = ["train.py", *words]
        train(words)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """The exit status of a process; minus the signal, if one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reported(sweep: Path, form: str) -> str:
    """The report without what depends on the clock."""
    path = sweep.with_suffix(f".{form}")
    report([str(sweep), "--no-timings", "--format", form, "--out", str(path)])
    return path.read_text()


def contents(sweep: Path) -> dict[str, list[str]]:
    """Digests of what each job has left: predictions, adapter, and every row of its log."""
    return {
        folder.name: [
            hashlib.sha256(file.read_bytes()).hexdigest()
            for file in (
                folder / "predictions.parquet",
                *sorted((folder / "adapter").iterdir()),
                folder / "metrics.jsonl",
            )
        ]
        for folder in records_below(sweep)
    }


def one_kill(sweep: Path, log: Path, after: float) -> dict[str, Any]:
    """Start the sweep, kill it so many seconds later, and say what it has left."""
    child = start(sweep, log)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    killed = wait(child) == -signal.SIGKILL
    statuses = [record.status for record in records_below(sweep).values()] if sweep.exists() else []
    return {"seconds": round(after, 3), "killed": killed, **{name: statuses.count(name) for name in set(statuses)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    assert running, "imported before the first fork"
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        peaceful, killed, log = Path(place, "peace", "sweep"), Path(place, "kills", "sweep"), Path(place, "log")
        begun = time.perf_counter()
        if status := wait(start(peaceful, log)):
            raise SystemExit(f"exit status {status}:\n{log.read_text()}")
        whole = time.perf_counter() - begun
        kills = []
        for number in range(options.kills):
            # So that the kills together leave the sweep about as much time as it needs.
            kills.append(one_kill(killed, log, moments.uniform(0.2, 2 * whole / options.kills)))
            print(f"kill {number + 1} of {options.kills}: {kills[-1]}", flush=True)
        status = wait(start(killed, log))
        equal = {form: reported(peaceful, form) == reported(killed, form) for form in ("markdown", "csv")}
        finished = sum(record.status == "finished" for record in records_below(killed).values())
        one, other = contents(peaceful), contents(killed)
        same = sum(one[name] == other.get(name) for name in one)
        scores = sorted({record.score for record in records_below(killed).values() if record.score is not None})
    outcome = {
        "command": f"python experiments/kill_sweep/run.py --kills {options.kills} --seed {options.seed}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "seconds_in_peace": round(whole, 1),
        "last_exit_status": status,
        "jobs_finished": f"{finished} of {JOBS}",
        "reports_equal_byte_for_byte": equal,
        "jobs_with_equal_predictions_adapters_and_logs": f"{same} of {JOBS}",
        "scores": [scores[0], scores[-1]],
        "kills": kills,
    }
    options.out.write_text(json.dumps(outcome, indent=1) + "\n")
    print({name: value for name, value in outcome.items() if name != "kills"})
    if not all(equal.values()) or same < JOBS or status:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
