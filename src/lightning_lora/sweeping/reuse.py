"""What a job finds of earlier work: its own folder as an earlier start left it, or the same job in another sweep."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_lora.atomic import CannotWriteError, atomic_file, atomic_folder, explained
from lightning_lora.reporting import RunRecord, read_record, write_record
from lightning_lora.run_folder import ADAPTER, LOG, MERGED, PREDICTIONS, RECORD

OUTDATED = ".outdated"
"""Folder of a sweep, which no report looks into, for jobs whose data, base model or code is no longer what it was."""
_COPIED = (ADAPTER, MERGED, LOG, RECORD)
_OF_THIS_START = (".lock", ".hydra", "job.log")


def earlier_record(folder: Path) -> RunRecord | None:
    """The record that a job's folder holds; None where there is none, or one that cannot be read."""
    try:
        return read_record(folder)
    except ValueError:
        return None


def may_go_on(record: RunRecord | None, job_id: str) -> bool:
    """Whether a start may go on from what an earlier one of the same job left.

    Not where a loss was not finite: the same steps would come to it again.
    """
    return record is not None and record.job_id == job_id and record.status not in ("finished", "diverged")


def set_aside(folder: Path, record: RunRecord) -> None:
    """Move what another job has left in this folder to the sweep's `OUTDATED`, where it is not lost.

    Raises:
        CannotWriteError: the file system refuses.
    """
    with explained(folder):
        away = folder.parent / OUTDATED / f"{folder.name}-{record.job_id}"
        away.mkdir(parents=True, exist_ok=True)
        for entry in folder.iterdir():
            if entry.name not in _OF_THIS_START:
                target = away / entry.name
                shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)
                entry.rename(target)


def record_failure(folder: Path, settings: Mapping[str, Any], reason: str) -> RunRecord:
    """The record of a job that failed; written where the job has not done so itself, and the disk has room for it.

    Args:
        folder: The job's. What an earlier start has finished there stays: only this start is said to have failed.
        settings: The resolved configuration as plain values, which need not be allowed ones.
        reason: What ended the job, in one line.
    """
    earlier = earlier_record(folder)
    if earlier is not None and earlier.error == reason:
        return earlier
    if earlier is not None and earlier.status == "finished":
        return replace(earlier, status="failed", error=reason)
    fresh = RunRecord(job_id="", status="failed", config=dict(settings), task=settings["data"]["task"], metric="")
    record = replace(earlier or fresh, status="failed", error=reason)
    with suppress(CannotWriteError):  # the other jobs may have room, and of this one the terminal tells
        write_record(record, folder)
    return record


def take_over(folder: Path, job_id: str, *, needs_merged: bool = False) -> RunRecord | None:
    """Copy the same job from another sweep beside this one, if it is finished there.

    Args:
        folder: The job's folder, ``SWEEPS/SWEEP/JOB``; others are looked for at ``SWEEPS/*/JOB``.
        job_id: Identity of the job.
        needs_merged: Only a folder with a merged model will do: one that has none could not be given it afterwards.

    Returns:
        Its record, which stands in ``folder`` now; None where no other sweep has it.

    Raises:
        CannotWriteError: the file system refuses.
    """
    for other in sorted(folder.parent.parent.glob(f"*/{folder.name}")):
        record = earlier_record(other) if other != folder else None
        if record is None or record.job_id != job_id or record.status != "finished":
            continue
        if needs_merged and not (other / MERGED).is_dir():
            continue
        # The record last: until it is there, the job is not done.
        for entry in sorted(other.iterdir(), key=lambda entry: entry.name == RECORD):
            if entry.name in _COPIED or entry.name.startswith(PREDICTIONS):
                _copy(entry, folder / entry.name)
        return record
    return None


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        with atomic_folder(target) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
    else:
        with atomic_file(target) as temporary:
            shutil.copyfile(source, temporary)
