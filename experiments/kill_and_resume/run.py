"""Kill training at random moments, let it go on, and compare what comes out with a run that was never disturbed.

    python -m experiments.kill_and_resume.run --kills 50

Every run is the real command line, in a process forked from this one, which has imported everything beforehand. The
kill is SIGKILL, which nothing can answer. What is found goes to results.json beside this file.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import torch

from experiments.forked_training import start, wait
from experiments.provenance import provenance
from lightning_lora import read_record

HERE = Path(__file__).parent
WORDS = [
    "lora=qv",
    "lora.dropout=0.1",
    "data.train_rows=256",
    "batch_size=8",
    "epochs=3",
    "trainer.checkpoint_every=2",
    "trainer.limit_val_batches=4",
    "trainer.progress_bar=false",
    "trainer.accelerator=cpu",
    "logger=disabled",
    "merge.save=false",
]
COMPARED = ("job_id", "status", "score", "best_score", "metrics", "parameters", "merge_check", "base", "data")


def finish(words: list[str], log: Path) -> float:
    """Run to the end; returns the seconds from the first row of its log, where training begins."""
    child = start(words, log)
    folder = Path(words[-1].partition("=")[2])
    begun = training_begins(folder, child)
    if status := wait(child):
        raise SystemExit(f"exit status {status}:\n{log.read_text()}")
    return time.perf_counter() - begun


def training_begins(folder: Path, child: int) -> float:
    """Wait until the run has written its record, which is the last thing before the first step."""
    record = folder / "result.json"
    while not record.exists():
        if os.waitpid(child, os.WNOHANG)[0]:
            raise SystemExit(f"the run in {folder} ended before it began")
        time.sleep(0.001)
    return time.perf_counter()


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same: the record's results, and every byte of predictions, adapter and log."""
    record = read_record(folder)
    files = [folder / "predictions.parquet", *sorted((folder / "adapter").iterdir()), folder / "metrics.jsonl"]
    return {name: getattr(record, name) for name in COMPARED} | {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def state(folder: Path) -> dict[str, Any]:
    """What a killed run has left."""
    last = folder / "checkpoints" / "last.ckpt"
    return {
        "checkpoint_step": torch.load(last, weights_only=True)["global_step"] if last.exists() else None,
        "status": read_record(folder).status,
        "files_half_written": len([path for path in folder.rglob("*.tmp") if path.is_file()]),
    }


def one_kill(folder: Path, after: float, expected: dict[str, Any]) -> dict[str, Any]:
    """Kill a run so many seconds after training began, resume it, and compare."""
    log = folder.with_suffix(".log")
    child = start([*WORDS, f"hydra.run.dir={folder}"], log)
    begun = training_begins(folder, child)
    time.sleep(max(0.0, begun + after - time.perf_counter()))
    os.kill(child, signal.SIGKILL)
    killed = wait(child) == -signal.SIGKILL
    found = state(folder)
    status = wait(start([f"resume={folder}"], log))
    got = outcome(folder) if status == 0 else {}
    different = [name for name in expected if got.get(name) != expected[name]]
    left = len(list((folder / "checkpoints").glob(".*.tmp")))
    return {"seconds": round(after, 3), "killed": killed, **found, "exit_status": status, "different": different} | (
        {"temporary_files_left": left} if left else {}
    )


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = provenance(f"python -m experiments.kill_and_resume.run --kills {options.kills} --seed {options.seed}")
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ["LIGHTNING_LORA_CACHE"] = str(root / "cache")
        undisturbed = {"whole": [], "again": [], "other": ["seed=1"]}
        length = min(
            finish([*WORDS, *words, f"hydra.run.dir={root / name}"], root / f"{name}.log")
            for name, words in undisturbed.items()
        )
        expected, other = outcome(root / "whole"), outcome(root / "other")
        assert outcome(root / "again") == expected, "an undisturbed run does not give the same twice"
        assert other["predictions.parquet"] != expected["predictions.parquet"], "the control: a seed makes a difference"
        trials = []
        while sum(trial["killed"] for trial in trials) < options.kills:
            folder = root / f"killed-{len(trials)}"
            trials.append(one_kill(folder, moments.uniform(0, length), expected))
            print(len(trials), trials[-1], flush=True)
            shutil.rmtree(folder)
    record(head, trials, length)


def record(head: dict[str, Any], trials: list[dict[str, Any]], length: float) -> None:
    """Write results.json. A run that was through before its kill came is no kill and is not counted.

    Raises:
        SystemExit: status 1 where a killed run did not end as the undisturbed one.
    """
    kills = [trial for trial in trials if trial["killed"]]
    same = [trial for trial in kills if trial["exit_status"] == 0 and not trial["different"]]
    facts = {
        **head,
        "versions": read_versions(),
        "run": f"python train.py {' '.join(WORDS)}",
        "kills": len(kills),
        "resumed_and_the_same": len(same),
        "kills_before_the_first_checkpoint": sum(trial["checkpoint_step"] is None for trial in kills),
        "kills_while_a_file_was_written": sum(trial["files_half_written"] > 0 for trial in kills),
        "different_checkpoint_steps": len({trial["checkpoint_step"] for trial in kills} - {None}),
        "seconds_of_training_undisturbed": round(length, 2),
        "trials": trials,
    }
    (HERE / "results.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{len(same)} of {len(kills)} killed runs ended as the undisturbed one")
    if len(same) < len(kills):
        raise SystemExit(1)


def read_versions() -> dict[str, str]:
    """Of what takes part."""
    from importlib.metadata import version

    return {"python": platform.python_version()} | {
        name: version(name) for name in ("lightning-lora", "torch", "lightning", "transformers", "hydra-core")
    }


if __name__ == "__main__":
    main()
