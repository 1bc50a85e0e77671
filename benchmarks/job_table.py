"""The Markdown table of `single_job.py`'s records: one line for each task, projections and dropout.

    python benchmarks/job_table.py OUT/single_job_*.json

Seconds are medians over the rounds; ratios are taken within a round, and their median is given. A dev score is the mean
over the rounds, times 100, with the lowest and the highest. What a record does not hold is "–", and a column of which
none holds anything is left out. Below the table stands where, and from which commit, its lines were measured.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TASKS = ("cola", "sst2", "stsb", "mrpc", "rte")
HERE, FP32, PEFT, PEFT_BEST = "here", "here, fp32", "PEFT + Trainer", "PEFT + Trainer, bf16, grouped by length"
COMPARED = (HERE, FP32, PEFT, PEFT_BEST)
"""The default, and at the same precision as PEFT's; PEFT's default, and its best."""
HEADINGS = (
    "task, training rows",
    "adapted, dropout",
    "rounds",
    "seconds: here",
    "seconds: here, fp32",
    "seconds: PEFT",
    "seconds: PEFT at its best",
    "times PEFT: fp32",
    "times PEFT: here",
    "times PEFT at its best: here",
    "peak memory: fp32",
    "peak memory: here",
    "its rise: fp32",
    "its rise: here",
    "dev scores, in the order of the seconds",
)
Rows = Sequence[dict[str, Any]]


def ratios(rows: Rows, key: str, above: str, below: str) -> list[float]:
    """One side over the other, within each round that has both."""
    found = {(row["round"], row["side"]): row[key] for row in rows if key in row}
    rounds = sorted({number for number, _ in found})
    pairs = [(found.get((number, above)), found.get((number, below))) for number in rounds]
    return [one / other for one, other in pairs if one is not None and other is not None]


def score_of(rows: Rows, side: str) -> str:
    """Mean (lowest to highest) over the rounds, times 100."""
    scores = [100 * row["score"] for row in rows if row["side"] == side]
    if not scores:
        return "–"
    mean = f"{statistics.mean(scores):.1f}"
    return mean if len(scores) == 1 else f"{mean} ({min(scores):.1f} to {max(scores):.1f})"


def line(record: dict[str, Any], scored: Sequence[str] = COMPARED) -> list[str]:
    """The cells of one record, with the scores of some sides."""
    settings, rows = record["settings"], with_rise(record["rows"])
    counts = [count for side in COMPARED if (count := sum(row["side"] == side for row in rows))]
    seconds = [[row["seconds"] for row in rows if row["side"] == side] for side in COMPARED]
    times = ((PEFT, FP32), (PEFT, HERE), (PEFT_BEST, HERE))
    memory = ((FP32, PEFT), (HERE, PEFT))
    return [
        f"{rows[0]['task']}, {settings['train_rows'] or 'all'}",
        f"{settings['lora']}, {settings['dropout']:g}",
        str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}",
        *(_median(values, 1) for values in seconds),
        *(_median(ratios(rows, "seconds", *pair), 2) for pair in times),
        *(_median(ratios(rows, "peak_mib", *pair), 2) for pair in memory),
        *(_median(ratios(rows, "rise_mib", *pair), 2) for pair in memory),
        ", ".join(score_of(rows, side) for side in scored),
    ]


def with_rise(rows: Rows) -> list[dict[str, Any]]:
    """Rows as they are written now; those of the first format call the rise ``peak_mib``, and have no peak."""
    return [
        row
        if "rise_mib" in row
        else {name: row[name] for name in row if name != "peak_mib"} | {"rise_mib": row["peak_mib"]}
        for row in rows
    ]


def _median(values: Sequence[float], decimals: int) -> str:
    return f"{statistics.median(values):.{decimals}f}" if values else "–"


def origins(records: Rows) -> Iterator[str]:
    """A line for each machine and code, and which lines of the table are of it."""
    of: dict[str, list[str]] = {}
    for record in records:
        settings, made_by = record["settings"], record["rows"][0].get("provenance", {})
        told = [record["machine"], *(f"{name.replace('_', ' ')} {value}" for name, value in made_by.items())]
        versions = [f"{name} {version}" for name, version in record["versions"].items() if name not in made_by]
        name = f"{record['rows'][0]['task']} {settings['lora']} {settings['dropout']:g}"
        of.setdefault(", ".join(told + versions), []).append(name)
    for origin, names in of.items():
        yield f"{'all' if len(of) == 1 else '; '.join(names)}: {origin}"


def table(records: Rows) -> str:
    """In the order of `TASKS`, query and value before all, less dropout before more."""

    def place(record: dict[str, Any]) -> tuple[Any, ...]:
        settings, task = record["settings"], record["rows"][0]["task"]
        return settings["lora"] != "qv", settings["dropout"], TASKS.index(task) if task in TASKS else len(TASKS), task

    records = sorted(records, key=place)
    scored = [side for side in COMPARED if any(row["side"] == side for record in records for row in record["rows"])]
    cells_of = [line(record, scored) for record in records]
    told = [number for number in range(len(HEADINGS)) if any(cells[number] != "–" for cells in cells_of)]
    lines = [[cells[number] for number in told] for cells in (HEADINGS, ["---"] * len(HEADINGS), *cells_of)]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", *origins(records)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", type=Path, help="files that single_job.py wrote")
    records = {file: json.loads(file.read_text()) for file in parser.parse_args().records}
    compared = {
        file: record for file, record in records.items() if any(row["side"] in COMPARED for row in record["rows"])
    }
    for file in records.keys() - compared.keys():
        print(f"{file}: left out, for it holds none of: {'; '.join(COMPARED)}", file=sys.stderr)
    print(table(list(compared.values())))


if __name__ == "__main__":
    main()
