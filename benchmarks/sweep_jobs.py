"""What the jobs of one sweep leave to one another: memory, and what a base model costs that is loaded again.

    python benchmarks/sweep_jobs.py --out OUT
    python benchmarks/sweep_jobs.py --jobs 0 --model MINILM --out OUT

The sweep is a user's command, its jobs one after the other in one process; its memory is looked at from outside, with
what is given back between two jobs and without. Linux only.
"""

import argparse
import copy
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from records import BENCHMARKS, provenance, write_record

from lightning_lora.backbone import load_backbone
from lightning_lora.digests import tensor_digests
from lightning_lora.tasks import TASKS

SHORT = ["lora=qv", "rank=8", "data.train_rows=64", "epochs=1", "trainer.limit_val_batches=2", "logger=disabled"]
TRAIN = "from lightning_lora.cli.train import main; main()"
NOT_GIVEN_BACK = "import lightning_lora.sweeping.between_jobs as b; b.BetweenJobs.on_job_end = lambda *_, **__: None; "
SIDES = {"given back": TRAIN, "left to Python": NOT_GIVEN_BACK + TRAIN}


def memory_of(jobs: int, program: str) -> list[tuple[float, float]]:
    """Least and most MB that were resident after the end of a job and before that of the next, for each but the last.

    Raises:
        RuntimeError: the sweep failed.
    """
    spans: list[list[float]] = [[]]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program, "-m", *SHORT, f"seed=range({jobs})"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, cwd=folder, env=unbuffered, text=True, **pipes)

        def watch() -> None:
            while process.poll() is None:
                spans[-1].append(_resident(process.pid))
                time.sleep(0.005)

        watcher = Thread(target=watch)
        watcher.start()
        assert process.stdout is not None
        for line in process.stdout:
            if re.match(rf"\[ *\d+/{jobs}\]", line):  # of a job that has ended
                spans += [[]]
        watcher.join()
    if process.wait() != 0 or len(spans) != jobs + 1:
        raise RuntimeError(f"the sweep ended with status {process.returncode} after {len(spans) - 1} jobs")
    return [(min(span), max(span)) for span in spans[1:-1]]


def _resident(number: int) -> float:
    for line in Path(f"/proc/{number}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")  # it has just ended


def seconds_for_a_base(model: str, repeats: int) -> dict[str, list[float]]:
    """Of loading it anew with its tokenizer, of copying both in memory, and of its digests, alternating."""
    task = TASKS["sst2"]
    backbone = load_backbone(model, task)
    ways: dict[str, Callable[[], Any]] = {
        "load": lambda: load_backbone(model, task),
        "copy": lambda: copy.deepcopy((backbone.model, backbone.tokenizer)),
        "digests": lambda: tensor_digests(backbone.model.state_dict().items()),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, do in ways.items():
            began = time.perf_counter()
            do()
            taken[way].append(time.perf_counter() - began)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50, help="of each sweep (50); 0 leaves the sweeps out")
    parser.add_argument("--model", help="a base model to load, copy and digest; without it this is left out")
    parser.add_argument("--repeats", type=int, default=7, help="how often each is timed (7)")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "results", help="folder of the records")
    options = parser.parse_args()
    told = {"provenance": provenance()}
    if options.jobs:
        spans = {side: memory_of(options.jobs, program) for side, program in SIDES.items()}
        for side, found in spans.items():
            ends = [found[0], found[len(found) // 2], found[-1]]
            told_of = ", ".join(f"{least:.0f} to {most:.0f}" for least, most in ends)
            print(f"{side}: {told_of} MB behind the first job, in the middle, before the last")
        command = f"python benchmarks/sweep_jobs.py --jobs {options.jobs}"
        write_record(options.out / "sweep_memory.json", {"command": command, **told, "megabytes": spans})
    if options.model:
        seconds = seconds_for_a_base(options.model, options.repeats)
        for way, taken in seconds.items():
            print(f"{way}: {statistics.median(taken):.2f} s (median of {options.repeats})")
        name = Path(options.model).parent.name if Path(options.model).name == "model" else Path(options.model).name
        command = f"python benchmarks/sweep_jobs.py --jobs 0 --model {name} --repeats {options.repeats}"
        write_record(options.out / f"base_{name}.json", {"command": command, **told, "seconds": seconds})


if __name__ == "__main__":
    main()
