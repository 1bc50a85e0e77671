"""Does a frozen base in bf16 give the scores of one in fp32? Runs paired by task and seed.

    python experiments/precision/compare.py multirun/precision --out experiments/precision/results.json

The interval of the mean difference is Student's over the seeds; deviations beside the means are those of the seeds.
"""

import argparse
import json
import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scipy import stats

from lightning_lora import RunRecord
from lightning_lora.atomic import atomic_file
from lightning_lora.reporting import records_below

EXACT, ROUNDED = "32-true", "bf16-frozen"


def paired(records: Iterable[RunRecord]) -> list[dict[str, Any]]:
    """The seeds of every task that were run both ways, with their scores in points.

    Raises:
        SystemExit: a seed of a task was run twice in the same way, and which of the two is meant is not known.
    """
    found: dict[tuple[str, int], dict[str, RunRecord]] = {}
    for record in records:
        if record.precision not in (EXACT, ROUNDED):
            continue
        seed = record.config["seed"]
        by_precision = found.setdefault((record.task, seed), {})
        if other := by_precision.get(record.precision):
            jobs = f"jobs {other.job_id} and {record.job_id}"
            raise SystemExit(
                f"{record.task}, seed {seed}, was run twice in {record.precision} ({jobs}): keep one of them"
            )
        by_precision[record.precision] = record
    pairs = []
    for (task, seed), by_precision in sorted(found.items()):
        if len(by_precision) < 2:
            continue
        exact, rounded = by_precision[EXACT], by_precision[ROUNDED]
        pairs.append(
            {
                "task": task,
                "seed": seed,
                "metric": exact.metric,
                EXACT: 100 * exact.score,
                ROUNDED: 100 * rounded.score,
                "fit_seconds": [exact.seconds["fit"], rounded.seconds["fit"]],
                "changed_by_merging": [(run.merge_check or {}).get("changed_predictions") for run in (exact, rounded)],
                "train_rows": exact.data["rows"],
                "job_ids": [exact.job_id, rounded.job_id],
            }
        )
    return pairs


def line(task: str, pairs: list[dict[str, Any]]) -> str:
    """One Markdown row: mean and standard deviation of either, the mean difference with its 95 % interval.

    A dash stands for what a single seed does not tell.
    """
    exact, rounded = ([pair[name] for pair in pairs] for name in (EXACT, ROUNDED))
    differences = [two - one for one, two in zip(exact, rounded, strict=True)]
    ratio = statistics.median(pair["fit_seconds"][0] / pair["fit_seconds"][1] for pair in pairs)
    cells = [
        f"{task}, {pairs[0]['metric']}",
        str(len(pairs)),
        *(f"{statistics.mean(scores):.1f} ± {deviation(scores)}" for scores in (exact, rounded)),
        f"{statistics.mean(differences):+.1f} ({interval(differences)})",
        f"{ratio:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def deviation(scores: list[float]) -> str:
    return f"{statistics.stdev(scores):.1f}" if len(scores) > 1 else "–"


def interval(differences: list[float]) -> str:
    """Of their mean, at 95 %."""
    count = len(differences)
    if count < 2:
        return "–"
    mean = statistics.mean(differences)
    half = stats.t.ppf(0.975, count - 1) * statistics.stdev(differences) / count**0.5
    return f"{mean - half:+.1f} to {mean + half:+.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with runs somewhere below it")
    parser.add_argument("--out", type=Path, help="where the facts go, as JSON")
    options = parser.parse_args()

    records = [record for record in records_below(options.folder).values() if record.status == "finished"]
    pairs = paired(records)
    if not pairs:
        raise SystemExit(
            f"{options.folder} holds no seed of a task that was run to its end both in {EXACT} and in {ROUNDED}"
        )
    if options.out:
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        facts = {"versions": records[0].versions, "machine": machine, "pairs": pairs}
        with atomic_file(options.out) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n")
    print("| task | seeds | fp32 | bf16 base | difference (95 %) | times as fast |\n|---|---|---|---|---|---|")
    for task in dict.fromkeys(pair["task"] for pair in pairs):
        print(line(task, [pair for pair in pairs if pair["task"] == task]))


if __name__ == "__main__":
    main()
