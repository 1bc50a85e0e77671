"""Finding the runs that a report is about."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lightning_lora.reporting.listing import files_below
from lightning_lora.reporting.record import RunRecord, read_record

_NEEDED = {
    "config": ("lora", "data", "trainer", "seed", "rank", "alpha"),
    "base": ("name", "fingerprint"),
    "data": ("fingerprint", "rows"),
    "versions": ("lightning-lora",),
}
_NEEDED_OF_FINISHED = {"parameters": ("adapter", "trainable_percent"), "seconds": ("fit",)}


@dataclass
class Collected:
    """What was found.

    Attributes:
        records: By their runs' folders.
        unreadable: What cannot be read, with the reason.
    """

    records: dict[Path, RunRecord] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)


def collect(folders: Iterable[Path]) -> Collected:
    """Every record in the folders or below them, in order of their names; hidden folders are left out.

    A record that is damaged does not hide the others.
    """
    found = Collected()
    for folder in folders:
        for path in files_below(folder):
            try:
                found.records[path.parent] = _complete(read_record(path), path)
            except ValueError as error:
                found.unreadable[path.parent] = str(error)
    return found


def _complete(record: RunRecord, path: Path) -> RunRecord:
    """The record, which has all that a report reads.

    Raises:
        ValueError: it lacks something, or is of a job that failed before model and data were read.
    """
    if record.status == "failed" and not record.base:
        raise ValueError(f"it failed before it began: {record.error}")
    needed = _NEEDED | (_NEEDED_OF_FINISHED if record.status == "finished" else {})
    for section, keys in needed.items():
        for key in keys:
            if key not in getattr(record, section):
                raise ValueError(f"{path} has no {section}.{key}, which every run writes")
    if len(record.data["rows"]) < 2:
        raise ValueError(f"{path} names no dev split in data.rows")
    return record
