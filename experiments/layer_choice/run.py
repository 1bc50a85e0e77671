"""Which layers to adapt: the sweeps behind the tables, each one command that goes on where it stopped.

    python experiments/layer_choice/run.py rates --model MINILM --glue GLUE --into DIR
    python experiments/layer_choice/run.py layers --model MINILM --glue GLUE --into DIR
    lightning-lora report DIR/layers --html page.html

`MINILM` is the folder with all-MiniLM-L6-v2, `GLUE` one with a folder of parquet files for each task. The tables:

- rates: the learning rates of every option, scored on a tenth held out of the training rows;
- layers: head, qv, qkvo, mlp, all (rank 8) and full, five seeds, scored on the dev set like all that follow;
- matched: qv, qkvo, mlp and all with the adapter parameters of `all` at rank 20, five seeds;
- roles: q, k, v, o (rank 8) and bitfit, three seeds, on two tasks.

Every table but the first takes the learning rates that learning_rates.json holds as the best of theirs.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
RATES = HERE / "learning_rates.json"

TASKS = ("mrpc", "rte", "stsb", "cola", "sst2")
TWO_TASKS = ("mrpc", "stsb")
FIVE_SEEDS, THREE_SEEDS = "0,1,2,3,4", "0,1,2"
LAYERS = ("head", "qv", "qkvo", "mlp", "all", "full")
ADAPTED = ("qv", "qkvo", "mlp", "all")
ROLES = ("q", "k", "v", "o", "bitfit")
WITHOUT_RANK = ("head", "bitfit", "full")

LORA_GRID = "3e-4,5e-4,1e-3,3e-3"
GRIDS = {"head": "1e-3,3e-3,1e-2,3e-2,1e-1", "full": "3e-5,1e-4,3e-4,1e-3"}
"""Full fine-tuning wants smaller rates than LoRA, a head alone larger ones; all else has LORA_GRID."""


def best_rates() -> dict[tuple[str, str], float]:
    """(task, option) -> the rate with the best score on the held-out rows; of equal ones the smallest."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for run in json.loads(RATES.read_text())["runs"]:
        found = (run["score"], -run["lr"])
        key = (run["task"], run["option"])
        best[key] = max(found, best.get(key, found))
    return {key: -negative for key, (_, negative) in best.items()}


def rates_sweeps(task: str) -> list[list[str]]:
    """The grids of a task; one sweep for the options that share a grid and the need of a rank."""
    options = LAYERS + (ROLES if task in TWO_TASKS else ())
    grouped: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for option in options:
        grouped[GRIDS.get(option, LORA_GRID), option not in WITHOUT_RANK].append(option)
    return [
        [f"lora={','.join(same)}", f"lr={grid}", "data.holdout=0.1", *(["rank=8"] if ranked else [])]
        for (grid, ranked), same in grouped.items()
    ]


def seeds_sweeps(task: str, options: tuple[str, ...], seeds: str, *budget: str) -> list[list[str]]:
    """The seeds of a task's options at the rate that was best for each; one sweep for the options that share it."""
    rates = best_rates()
    grouped: dict[tuple[float, bool], list[str]] = defaultdict(list)
    for option in options:
        grouped[rates[task, option], option not in WITHOUT_RANK].append(option)
    return [
        [f"lora={','.join(same)}", f"lr={rate:g}", f"seed={seeds}", *((budget or ["rank=8"]) if ranked else [])]
        for (rate, ranked), same in grouped.items()
    ]


def sweeps_of(table: str, task: str) -> list[list[str]]:
    """The sweeps of one task, each as the words that follow `train.py -m`."""
    match table:
        case "rates":
            return rates_sweeps(task)
        case "layers":
            return seeds_sweeps(task, LAYERS, FIVE_SEEDS)
        case "matched":
            return seeds_sweeps(task, ADAPTED, FIVE_SEEDS, "rank=20", "lora.same_parameters_as=all")
        case "roles":
            return seeds_sweeps(task, ROLES, THREE_SEEDS)
    raise ValueError(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("rates", "layers", "matched", "roles"))
    parser.add_argument("--model", required=True, help="a folder with the pretrained model")
    parser.add_argument(
        "--glue", required=True, type=Path, help="a folder with one folder of parquet files for each task"
    )
    parser.add_argument("--into", required=True, type=Path, help="where the runs go: DIR/TABLE/TASK")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="some of the table's tasks only")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings for every sweep")
    options = parser.parse_args()

    failed = 0
    for task in options.tasks or (TWO_TASKS if options.table == "roles" else TASKS):
        data = [
            f"data={task}",
            f"data.path={options.glue / task}",
            *(["data.train_rows=5000"] if task == "sst2" else []),
        ]
        folder = [f"hydra.sweep.dir={(options.into / options.table / task).resolve()}"]
        for words in sweeps_of(options.table, task):
            train = [sys.executable, "train.py", "-m", f"model.name={options.model}", "logger=disabled"]
            failed += subprocess.run([*train, *data, *words, *folder, *options.set]).returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
