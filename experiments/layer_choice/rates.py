"""The tables of learning rates in README.md, from the facts beside this, as Markdown.

    python -m experiments.layer_choice.rates

Scores on held-out rows in points, the best of each option in bold; of equal ones the smallest rate, as the sweeps take.
"""

import json
from collections import defaultdict
from typing import Any

from experiments.layer_choice.run import ADAPTED, BUDGET, RATES, ROLES, TASKS, best_rates

BEYOND = RATES.with_name("rates_beyond.json")
TABLES = {
    "LoRA": (RATES, None, ADAPTED),
    "Full fine-tuning": (RATES, None, ("full",)),
    "The head alone": (RATES, None, ("head",)),
    "At the parameters of all at rank 5": (RATES, BUDGET, ADAPTED),
    "Single roles, and BitFit": (RATES, None, ROLES),
    "Beyond these grids": (BEYOND, None, ROLES),
}

Rates = dict[tuple[str, str], float]


def table(runs: list[dict[str, Any]], chosen: Rates, budget: str | None, options: tuple[str, ...]) -> str:
    """One row for each task and option that there is, one column for each rate, the chosen ones in bold."""
    scores: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
    rows = {}
    for run in runs:
        if run["same_parameters_as"] == budget and run["method"] in options:
            scores[run["task"], run["method"]][run["lr"]] = run["score"]
            rows[run["task"]] = f"{run['task']}, {run['metric']}, {run['rows']['held_out']:,}"
    rates = sorted({rate for row in scores.values() for rate in row})
    lines = [["task, metric, held-out rows", "option", *(f"{rate:g}" for rate in rates)], ["---"] * (len(rates) + 2)]
    for key in sorted(scores, key=lambda key: (TASKS.index(key[0]), options.index(key[1]))):
        shown = {rate: f"{100 * score:.1f}" for rate, score in scores[key].items()}
        if key in chosen:
            shown[chosen[key]] = f"**{shown[chosen[key]]}**"
        lines.append([rows[key[0]], key[1], *(shown.get(rate, "–") for rate in rates)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print every table under its name."""
    for name, (file, budget, options) in TABLES.items():
        chosen = best_rates(budget) if file == RATES else {}
        print(f"{name}:\n\n{table(json.loads(file.read_text())['runs'], chosen, budget, options)}\n")


if __name__ == "__main__":
    main()
