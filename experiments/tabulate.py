"""From the records below a folder to a table: one line for each task and method, over the seeds.

    python experiments/tabulate.py multirun/<date>/<time> --out experiments/<question>/results.json

The lines go to the terminal as Markdown; the facts they are made of go to the JSON file.
"""

import argparse
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from lightning_lora import RunRecord
from lightning_lora.reporting import method_of, records_below


def facts(record: RunRecord) -> dict[str, Any]:
    """What the table needs of one run, and what identifies it."""
    return {
        "job_id": record.job_id,
        "task": record.task,
        "method": method_of(record),
        "seed": record.config["seed"],
        "metric": record.metric,
        "score": record.score,
        "metrics": record.metrics,
        "trainable_percent": record.parameters["trainable_percent"],
        "fit_seconds": record.seconds["fit"],
        "total_seconds": record.seconds["total"],
        "merge_check": record.merge_check,
        "rows": record.data["rows"],
    }


def line(runs: list[dict[str, Any]]) -> str:
    """One Markdown row over the seeds of a task and method; scores in points."""
    scores = [100 * run["score"] for run in runs]
    spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    first = runs[0]
    changed = [run["merge_check"]["changed_predictions"] for run in runs if run["merge_check"]]
    cells = [
        first["task"],
        first["method"],
        str(len(runs)),
        f"{first['metric']} {statistics.mean(scores):.1f}{spread}",
        f"{first['trainable_percent']:.2f}",
        f"{statistics.median(run['fit_seconds'] for run in runs):.0f}",
        f"{sum(changed)}" if changed else "–",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+", help="folders with runs somewhere below them")
    parser.add_argument("--out", type=Path, help="where the facts go, as JSON")
    options = parser.parse_args()
    records = [record for folder in options.folder for record in records_below(folder).values()]
    runs = [facts(record) for record in records if record.status == "finished"]
    if len(runs) < len(records):
        print(f"{len(records) - len(runs)} of {len(records)} runs did not finish and are left out")
    print("| task | method | seeds | dev score | trainable % | training s | predictions changed by merging |")
    print("|---|---|---|---|---|---|---|")
    for key in dict.fromkeys((run["task"], run["method"]) for run in runs):
        print(line([run for run in runs if (run["task"], run["method"]) == key]))
    if options.out:
        machine = f"{platform.machine()}, {os.cpu_count()} cores; device of the runs: {records[0].device}"
        content = {"machine": machine, "versions": records[0].versions, "runs": runs}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
