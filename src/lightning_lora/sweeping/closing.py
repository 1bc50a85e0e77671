"""How a sweep ends: with the table of its jobs, or with a line on how to go on."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_lora.reporting import RunRecord, print_comparison
from lightning_lora.reporting.collecting import collect
from lightning_lora.reporting.comparing import compare
from lightning_lora.sweeping import determines_result, progress
from lightning_lora.sweeping.reuse import earlier_record, record_failure


def close(sweep: Path, folders: Sequence[Path]) -> None:
    """Print the tables of a sweep's jobs, and the command that shows more of them.

    Args:
        sweep: The sweep's folder.
        folders: Of its jobs.
    """
    found = collect(dict.fromkeys(folders))
    console = Console(highlight=False)
    if found.records or found.unreadable:
        print_comparison(
            compare(found.records, determines_result=determines_result, unreadable=found.unreadable), console
        )
    command = f"lightning-lora report {shlex.quote(str(sweep))} --html report.html"
    console.print(f"The same, with plots: {command}", soft_wrap=True, markup=False)


def tell_end(folder: Path, settings: Mapping[str, Any], why: str) -> RunRecord:
    """Tell the terminal that a job's process ended, and see to it that its record says why.

    Args:
        folder: The job's.
        settings: Its resolved configuration as plain values.
        why: How the process ended where it failed, else "". A reason that the job itself has recorded goes before.
    """
    record = earlier_record(folder)
    if why and (record is None or record.status not in ("failed", "diverged")):
        record = record_failure(folder, settings, why)
    assert record is not None, "a job that ends well leaves one"
    progress.ended(record, folder)
    return record


@contextmanager
def told_how_to_go_on(sweep: Path, jobs: int) -> Iterator[None]:
    """Within the block, a signal that stops the sweep is answered by saying what is done and how to go on.

    Raises:
        SystemExit: status 130 for Ctrl-C between two jobs; within a job the run has its own.
    """
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        print(f"{sweep}: stopped. The same command goes on with what is left of its {jobs} jobs.", file=sys.stderr)
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(130) from None
        raise
