"""What the records below some folders say, without predictions: the facts that are kept beside an experiment's README.

    python -m experiments.facts multirun/<sweep> --out experiments/<question>/results.json

With --add the facts that are there already stay, but for those of runs that are found again: the same job on the same
device in the same precision. Each run has its device and versions: a file may hold runs of several machines. The tables
come from the runs themselves: `lightning-lora report multirun/<sweep>`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from lightning_lora import RunRecord
from lightning_lora.atomic import atomic_file
from lightning_lora.reporting import method_of, records_below

IDENTITY = ("job_id", "device", "precision")
"""What tells a run from every other one: a job_id leaves the machine out."""
ORDER = ("task", "method", "lr", "seed")


def facts(record: RunRecord) -> dict[str, Any]:
    """What was run, and what came of it. The rank is that of the setting, None without adapters."""
    adapted = record.config["lora"]["method"] == "lora"
    return {
        "job_id": record.job_id,
        "task": record.task,
        "method": method_of(record),
        "rank": record.config["rank"] if adapted else None,
        "alpha": record.config["alpha"] if adapted else None,
        "scaling": record.config["lora"]["scaling"] if adapted else None,
        "same_parameters_as": record.config["lora"].get("same_parameters_as"),
        "lr": record.config["lr"],
        "seed": record.config["seed"],
        "epochs": record.config["epochs"],
        "batch_size": record.config["batch_size"],
        "precision": record.precision,
        "metric": record.metric,
        "score": record.score,
        "best_score": record.best_score,
        "metrics": record.metrics,
        "trainable_percent": record.parameters["trainable_percent"],
        "adapter_parameters": record.parameters["adapter"],
        "fit_seconds": record.seconds["fit"],
        "total_seconds": record.seconds["total"],
        "merge_check": record.merge_check,
        "rows": record.data["rows"],
        "data": record.data["fingerprint"],
        "base": record.base["fingerprint"],
        "device": record.device,
        "versions": {name: record.versions[name] for name in ("lightning-lora", "torch", "transformers")},
    }


def earlier(path: Path) -> list[dict[str, Any]]:
    """The runs that a file of facts holds; none where there is no such file.

    Raises:
        SystemExit: it is another kind of file.
    """
    if not path.exists():
        return []
    try:
        runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"]
        missing = [name for name in (*IDENTITY, *ORDER) if any(name not in run for run in runs)]
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"{path} holds no facts of runs that others could be added to; choose another --out") from None
    if missing:
        raise SystemExit(f"{path} has runs without {', '.join(missing)}: none can be added, choose another --out")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+", help="folders with runs somewhere below them")
    parser.add_argument("--out", type=Path, required=True, help="where the facts go, as JSON")
    parser.add_argument("--add", action="store_true", help="keep what is there of other runs")
    options = parser.parse_args()
    records = [record for folder in options.folder for record in records_below(folder).values()]
    finished = [record for record in records if record.status == "finished"]
    if not finished:
        parser.error("there is no finished run")
    found = [*(earlier(options.out) if options.add else []), *map(facts, finished)]
    runs = {tuple(run[name] for name in IDENTITY): run for run in found}
    ordered = sorted(runs.values(), key=lambda run: tuple(run[name] for name in ORDER))
    with atomic_file(options.out) as temporary:
        temporary.write_text(json.dumps({"runs": ordered}, indent=1) + "\n")
    print(
        f"{options.out}: {len(runs)} runs, {len(found) - len(runs)} replaced by a later one of the same "
        f"{', '.join(IDENTITY)}; {len(records) - len(finished)} did not finish and are left out"
    )


if __name__ == "__main__":
    main()
