"""Finding the runs that a report is about."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lightning_lora.reporting.listing import readable_below
from lightning_lora.reporting.record import RunRecord, require
from lightning_lora.run_folder import RECORD

_COMPARED = (
    *("config.data", "config.alpha", "versions.lightning-lora"),
    *("base.name", "base.fingerprint", "data.fingerprint", "data.rows"),
)
_OF_FINISHED = ("parameters.adapter", "parameters.trainable_percent", "seconds.fit")


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
        records, unreadable = readable_below(folder)
        found.unreadable |= unreadable
        for where, record in records.items():
            try:
                found.records[where] = _complete(record, where / RECORD)
            except ValueError as error:
                found.unreadable[where] = str(error)
    return found


def _complete(record: RunRecord, path: Path) -> RunRecord:
    """The record, which has all that a report reads.

    Raises:
        ValueError: it lacks something, or is of a job that failed before model and data were read.
    """
    if record.status == "failed" and not record.base:
        told = ", ".join(
            f"{key} {record.config[key]}" for key in ("rank", "alpha", "lr", "seed") if key in record.config
        )
        raise ValueError(f"it failed before it began ({told}): {record.error}")
    require(record, _COMPARED, path)
    if record.status == "finished":
        require(record, _OF_FINISHED, path)
        numbers = (record.parameters["adapter"], record.parameters["trainable_percent"], record.seconds["fit"])
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f"{path} has something else where a number belongs: {numbers}")
    if not isinstance(record.data["rows"], dict) or len(record.data["rows"]) < 2:
        raise ValueError(f"{path} names no dev split in data.rows")
    return record
