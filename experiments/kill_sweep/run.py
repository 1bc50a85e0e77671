"""Kill a sweep at random moments, start it again each time, and compare its report with that of one left in peace.

    python -m experiments.kill_sweep.run --kills 20

Every start is the real command line, in a process forked from this one, which has imported everything beforehand. The
kill is SIGKILL, which nothing can answer. What is found goes to results.json beside this file.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

from experiments.forked_training import start, wait
from experiments.provenance import provenance
from lightning_lora.cli.report import main as report
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


def words_for(sweep: Path) -> list[str]:
    return [*WORDS, f"hydra.sweep.dir={sweep}"]


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
    child = start(words_for(sweep), log)
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
    head = provenance(f"python -m experiments.kill_sweep.run --kills {options.kills} --seed {options.seed}")
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        peaceful, killed, log = Path(place, "peace", "sweep"), Path(place, "kills", "sweep"), Path(place, "log")
        begun = time.perf_counter()
        if status := wait(start(words_for(peaceful), log)):
            raise SystemExit(f"exit status {status}:\n{log.read_text()}")
        whole = time.perf_counter() - begun
        kills = []
        for number in range(options.kills):
            # So that the kills together leave the sweep about as much time as it needs.
            kills.append(one_kill(killed, log, moments.uniform(0.2, 2 * whole / options.kills)))
            print(f"kill {number + 1} of {options.kills}: {kills[-1]}", flush=True)
        status = wait(start(words_for(killed), log))
        equal = {form: reported(peaceful, form) == reported(killed, form) for form in ("markdown", "csv")}
        finished = sum(record.status == "finished" for record in records_below(killed).values())
        one, other = contents(peaceful), contents(killed)
        same = sum(one[name] == other.get(name) for name in one)
        scores = sorted({record.score for record in records_below(killed).values() if record.score is not None})
    outcome = {
        **head,
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
