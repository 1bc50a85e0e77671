"""How a sweep ends: with the table of its jobs, or with a line on how to go on."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from lightning_lora.reporting import RunRecord, print_comparison
from lightning_lora.reporting.collecting import collect
from lightning_lora.reporting.comparing import compare
from lightning_lora.sweeping import determines_result
from lightning_lora.sweeping.composing import resolved
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


def record_of(folder: Path, settings: DictConfig | None, why: str, killed: bool = False) -> RunRecord:
    """The record of a job that has ended.

    Args:
        folder: The job's.
        settings: Its configuration without Hydra's own part.
        why: How it ended where it failed, else "". It is recorded where the job has not said more of it.
        killed: Whether it did not end by itself. A failure in its record is then an earlier start's.
    """
    record = earlier_record(folder)
    has_said = record is not None and record.status in ("failed", "diverged") and not killed
    if why and not has_said:
        assert settings is not None, "JobReturn starts without them; every launcher fills them in"
        record = record_failure(folder, resolved(settings), why)
    assert record is not None, "a job that ends well leaves one"
    return record


@contextmanager
def told_how_to_go_on(sweep: Path, jobs: int) -> Iterator[None]:
    """Within the block, a signal that stops the sweep is answered by saying what is done and how to go on.

    Raises:
        SystemExit: status 130 for Ctrl-C between two jobs; within a job the run has its own.
    """
    stopped = f"{sweep}: stopped. The same command goes on with what is left of its {jobs} jobs."
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if is_stop(error):
            print(stopped, file=sys.stderr)
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(130) from None
        raise


def is_stop(error: KeyboardInterrupt | SystemExit) -> bool:
    """Whether a signal has asked the sweep to stop, and no job has ended the process."""
    # The status is 128 and the signal's number then.
    return isinstance(error, KeyboardInterrupt) or (isinstance(error.code, int) and error.code > 128)
