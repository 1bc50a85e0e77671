"""How long it takes until a run trains, from the command on: the help, and the first step of the default model.

    python benchmarks/start_up.py --repeats 7 --out OUT

The commands are a user's, warm: each has run once before it is timed. The first step has been taken when the
checkpoint that is asked for after each step is there, which adds writing it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from records import BENCHMARKS, provenance, write_record

TRAIN = [sys.executable, str(BENCHMARKS.parent / "train.py")]
STEP = ["lora=qv", "rank=8", "trainer.checkpoint_every=1", "trainer.progress_bar=false", "trainer.max_steps=20"]


def seconds_of_help() -> float:
    """From the command to its end."""
    began = time.perf_counter()
    subprocess.run([*TRAIN, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def seconds_to_first_step() -> float:
    """From the command to the checkpoint of the first training step.

    Raises:
        RuntimeError: the run ended without one.
    """
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = subprocess.Popen([*TRAIN, *STEP, "hydra.run.dir=run"], cwd=folder, stdout=subprocess.DEVNULL)
        while not (Path(folder) / "run" / "checkpoints" / "last.ckpt").exists():
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with status {process.returncode} and no checkpoint")
            time.sleep(0.005)
        taken = time.perf_counter() - began
        process.terminate()
        process.wait()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="how often each is timed (7)")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "results", help="folder of the record")
    options = parser.parse_args()
    made_by = provenance()  # now: of the code that runs
    measured: dict[str, list[float]] = {}
    for name, measure in (("help", seconds_of_help), ("first step", seconds_to_first_step)):
        measure()
        measured[name] = [measure() for _ in range(options.repeats)]
        print(f"{name}: {statistics.median(measured[name]):.1f} s (median of {options.repeats})", flush=True)
    command = f"python benchmarks/start_up.py --repeats {options.repeats}"
    write_record(options.out / "start_up.json", {"command": command, "provenance": made_by, "seconds": measured})


if __name__ == "__main__":
    main()
