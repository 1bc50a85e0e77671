"""Many runs, or one run's scores on other data, as tables for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_lora.reporting.record import RunRecord, read_record, require
from lightning_lora.run_folder import RECORD
from lightning_lora.targets import adapted_label

LONGEST_LINE = 400
"""Characters of a line."""
_LISTED = ("config.lora.method", "config.lora.roles", "config.lora.modules", "config.rank", "config.seed")


def records_below(folder: Path) -> dict[Path, RunRecord]:
    """Every record in the folder or below it by its run's folder, in order of the folders' names, hidden ones left out.

    Raises:
        ValueError: one of them cannot be read.
    """
    return {path.parent: read_record(path) for path in files_below(folder)}


def readable_below(folder: Path) -> tuple[dict[Path, RunRecord], dict[Path, str]]:
    """The records as `records_below` has them, and what cannot be read with the reason, which hides no other."""
    records, unreadable = {}, {}
    for path in files_below(folder):
        try:
            record = read_record(path)
            require(record, _LISTED, path)
            records[path.parent] = record
        except ValueError as error:
            unreadable[path.parent] = str(error)
    return records, unreadable


def files_below(folder: Path) -> list[Path]:
    """The records' files in the folder or below it, by their names; hidden folders are left out."""
    return sorted(
        path
        for path in folder.rglob(RECORD)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def method_of(record: RunRecord) -> str:
    """What was trained, as ``lora=`` had it; see `adapted_label`."""
    lora = record.config["lora"]
    return adapted_label(lora["method"], lora["roles"], lora["modules"])


def runs_table(records: Mapping[Path, RunRecord], below: Path) -> Table:
    """A line for each run, its folder relative to ``below``."""
    table = Table(box=None, padding=(0, 2))
    for heading in ("run", "task", "method", "rank", "seed", "score", "trainable %", "seconds", "status"):
        table.add_column(heading, justify="right" if heading in ("rank", "seed", "trainable %", "seconds") else "left")
    for folder, record in records.items():
        adapted = record.config["lora"]["method"] == "lora"
        percent = record.parameters.get("trainable_percent")
        table.add_row(
            escape(str(folder.relative_to(below))),
            escape(record.task),
            escape(method_of(record)),
            str(record.config["rank"]) if adapted else "",
            str(record.config["seed"]),
            f"{record.metric} {record.score:.4f}" if record.score is not None else "",
            f"{percent:.2f}" if percent is not None else "",
            f"{record.seconds['total']:.0f}" if "total" in record.seconds else "",
            record.status,
        )
    return table


def print_runs(below: Path, console: Console | None = None) -> int:
    """Print `runs_table` of the runs below a folder, under it what cannot be read; return how many there are of both.

    A run is one line however long it is. A narrow terminal goes on with it below: cut, two names may be one.
    """
    console = console or Console(highlight=False)
    console.width = LONGEST_LINE
    records, unreadable = readable_below(below)
    if records:
        console.print(runs_table(records, below))
    for reason in unreadable.values():
        console.print(f"left out: {escape(reason)}", soft_wrap=True)
    return len(records) + len(unreadable)


@dataclass(frozen=True)
class SplitScores:
    """A model's scores on one labelled split.

    Attributes:
        rows: How many there are.
        metrics: Every metric of the task, as a fraction.
    """

    rows: int
    metrics: dict[str, float]


def print_scores(task: str, scores: Mapping[str, SplitScores]) -> None:
    """Print a task's metrics, a line for each split."""
    table = Table(box=None, padding=(0, 2), title=escape(task), title_justify="left")
    metrics = list(dict.fromkeys(metric for split in scores.values() for metric in split.metrics))
    for heading in ("split", "rows", *metrics):
        table.add_column(heading)
    for name, split in scores.items():
        table.add_row(escape(name), str(split.rows), *(f"{split.metrics[metric]:.4f}" for metric in metrics))
    Console(highlight=False).print(table)
