"""How a sweep ends: with the table of its jobs, or with a line on how to go on."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from lightning_lora.reporting import RunRecord, print_runs
from lightning_lora.sweeping.reuse import earlier_record


def close(sweep: Path, folders: Sequence[Path]) -> dict[Path, RunRecord]:
    """Print the table of a sweep's jobs and the command that prints more of it.

    Args:
        sweep: The sweep's folder.
        folders: Of its jobs; one without a record is left out.

    Returns:
        The records by folder.
    """
    records = {}
    for folder in dict.fromkeys(folders):
        if (record := earlier_record(folder)) is not None:
            records[folder] = record
    console = Console(highlight=False)
    print_runs(records, sweep.absolute(), console)
    console.print(f"lightning-lora report {shlex.quote(str(sweep))}", soft_wrap=True, markup=False)
    return records


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
