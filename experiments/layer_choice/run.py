"""Which layers to adapt: the sweeps behind the tables. Each command goes on where it stopped.

    python -m experiments.layer_choice.run layers_rates --model MINILM --glue GLUE --into DIR
    python -m experiments.layer_choice.run layers --model MINILM --glue GLUE --into DIR
    lightning-lora report DIR/layers --html page.html

The tables:

    layers_rates    learning rates of the options of `layers`, scored on a tenth held out of the training rows
    roles_rates     the same of `roles`
    matched_rates   the same of `matched`: a rank that is three times as high wants another rate
    layers          head, qv, qkvo, mlp, all (rank 8) and full, five seeds, scored on the dev set like all that follow
    matched         qv, qkvo, mlp and all with the adapter parameters of `all` at rank 5, five seeds, on three tasks
    roles           q, k, v, o (rank 8) and bitfit, three seeds, on two tasks

The tables of scores take the rates that were best on the held-out rows, from learning_rates.json beside this. CoLA and
RTE are not among the three tasks: five seeds tell nothing apart there (README.md).
"""

import json
from collections import defaultdict
from pathlib import Path

from experiments.on_glue import Sweeps, run_tables

RATES = Path(__file__).parent / "learning_rates.json"

TASKS = ("mrpc", "rte", "stsb", "cola", "sst2")
THREE_TASKS, TWO_TASKS = ("mrpc", "stsb", "sst2"), ("mrpc", "stsb")
LAYERS = ("head", "qv", "qkvo", "mlp", "all", "full")
ADAPTED = ("qv", "qkvo", "mlp", "all")
ROLES = ("q", "k", "v", "o", "bitfit")

FIVE_SEEDS, THREE_SEEDS = "seed=0,1,2,3,4", "seed=0,1,2"
# With the parameters of all at rank 5, mlp has rank 9 everywhere, qkvo ranks 11 and 12, qv 22 and 23.
BUDGET = "all"
RANK, MATCHED = ["rank=8"], ["rank=5", f"lora.same_parameters_as={BUDGET}"]
USUAL_RATES = "3e-4,5e-4,1e-3,3e-3,1e-2"
RATES_OF = {"head": "3e-4,1e-3,3e-3,1e-2,3e-2,1e-1", "full": "3e-5,1e-4,3e-4"}
"""Other grids. Full fine-tuning wants smaller rates than LoRA and biases, a head alone larger ones."""


TABLES = {
    "layers": (LAYERS, FIVE_SEEDS, RANK),
    "matched": (ADAPTED, FIVE_SEEDS, MATCHED),
    "roles": (ROLES, THREE_SEEDS, RANK),
}
TASKS_OF = {"layers": TASKS, "matched": THREE_TASKS, "roles": TWO_TASKS}


def best_rates(budget: str | None) -> dict[tuple[str, str], float]:
    """(task, option) -> the rate with the best score on the held-out rows; of equal ones the smallest."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for run in json.loads(RATES.read_text())["runs"]:
        if run["same_parameters_as"] == budget:
            key, found = (run["task"], run["method"]), (run["score"], -run["lr"])
            best[key] = max(found, best.get(key, found))
    return {key: -negative for key, (_, negative) in best.items()}


def of_option(option: str, size: list[str]) -> list[str]:
    """What an option needs besides its name: the size of its adapters, or what it is trained in without them."""
    if option not in ("head", "bitfit", "full"):
        return size
    # A base of which some is trained cannot be frozen in bf16: autocast is what is customary.
    return ["trainer.precision=bf16-mixed"] if option in ("bitfit", "full") else []


def rates_sweeps(options: tuple[str, ...], size: list[str]) -> Sweeps:
    """The grids; one sweep for the options that share one."""
    grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for option in options:
        grouped[f"lr={RATES_OF.get(option, USUAL_RATES)}", *of_option(option, size)].append(option)
    return [[f"lora={','.join(same)}", *words, "data.holdout=0.1"] for words, same in grouped.items()]


def seeds_sweeps(task: str, options: tuple[str, ...], seeds: str, size: list[str]) -> Sweeps:
    """Every option at the rate that was best for it; one sweep for the options that share one."""
    rates = best_rates(BUDGET if size is MATCHED else None)
    grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for option in options:
        grouped[f"lr={rates[task, option]:g}", *of_option(option, size)].append(option)
    return [[f"lora={','.join(same)}", *words, seeds] for words, same in grouped.items()]


def sweeps_of(table: str, task: str) -> Sweeps:
    """The sweeps of a table on one task."""
    options, seeds, size = TABLES[table.removesuffix("_rates")]
    return rates_sweeps(options, size) if table.endswith("rates") else seeds_sweeps(task, options, seeds, size)


if __name__ == "__main__":
    assert __doc__ is not None
    run_tables(__doc__, sweeps_of, TASKS_OF | {f"{table}_rates": tasks for table, tasks in TASKS_OF.items()})
