"""The summary at the end of a run, for people."""

import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_lora.reporting.record import RunRecord

# Where a slash is in it, too, Hydra reads it as text without quotes: no number, null or list has one.
_PLAIN = re.compile(r"[\w./-]+( [\w./-]+)*", re.ASCII)


def summary_table(record: RunRecord, folder: Path) -> Table:
    """What the run was, what came out, and where it lies, as a two-column table."""
    table = Table(show_header=False, box=None, padding=(0, 2), title=escape(_title(record)), title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in _rows(record, folder):
        table.add_row(*map(escape, row))
    return table


def print_summary(record: RunRecord, folder: Path, console: Console | None = None) -> None:
    """Print `summary_table` to the terminal, and under it how to go on with a run that was interrupted."""
    console = console or Console(highlight=False)
    console.print(summary_table(record, folder))
    if record.status == "interrupted":
        value = shlex.quote(_for_hydra(str(folder)))
        console.print(f"go on with: python train.py resume={value}", soft_wrap=True, markup=False, emoji=False)


def _for_hydra(text: str) -> str:
    """A text as a value that Hydra's grammar reads as that text; this room has no Hydra to ask.

    A quote is escaped, and a backslash only before a quote, the closing one included.
    """
    if "/" in text and _PLAIN.fullmatch(text):
        return text
    escaped = re.sub(r'(\\+)(?="|\Z)', r"\1\1", text).replace('"', r"\"")
    return f'"{escaped}"'


def _title(record: RunRecord) -> str:
    return f"{record.task}: {record.status}"


def _rows(record: RunRecord, folder: Path) -> list[tuple[str, str]]:
    rows = []
    if record.error:
        rows.append(("error", record.error))
    if record.score is not None:
        best = f"   best epoch {record.best_score:.4f}" if record.best_score is not None else ""
        rows.append(("score", f"{record.metric} {record.score:.4f}{best}"))
    rows += [("", f"{split}: {_metrics(values)}") for split, values in record.metrics.items()]
    if record.parameters:
        rows.append(("trainable", _parameters(record)))
    if record.seconds:
        speed = f", {record.examples_per_second:.0f} examples/s" if record.examples_per_second else ""
        fit, total = record.seconds.get("fit", 0.0), record.seconds.get("total", 0.0)
        rows.append(("time", f"{total:.1f} s ({fit:.1f} s training{speed}) on {record.device}"))
    if record.merge_check is not None:
        rows.append(("merge check", _merge_check(record)))
    rows += [("files", str(folder))]
    rows += [
        ("", f"  {name}") for name in sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    ]
    return rows


def _metrics(values: dict[str, float | None]) -> str:
    return "  ".join(f"{name} {'not finite' if value is None else f'{value:.4f}'}" for name, value in values.items())


def _parameters(record: RunRecord) -> str:
    counts = record.parameters
    parts = [
        f"{counts[kind]:,} {kind.replace('_', ' ')}" for kind in ("adapter", "head", "other_trainable") if counts[kind]
    ]
    trainable = sum(int(counts[kind]) for kind in ("adapter", "head", "other_trainable"))
    return f"{trainable:,} of {counts['total']:,} ({counts['trainable_percent']:.2f} %): {', '.join(parts)}"


def _merge_check(record: RunRecord) -> str:
    assert record.merge_check is not None
    check = record.merge_check
    return (
        f"{check['changed_predictions']} of {check['rows']} predictions changed, "
        f"largest logit difference {check['max_logit_difference']:.1e}"
    )
