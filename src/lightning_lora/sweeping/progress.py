"""What the terminal shows while the jobs of a sweep run: a line for each that ends, with what is left to do."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from lightning_lora.reporting import RunRecord


@dataclass
class SweepProgress:
    """Counts the jobs of one sweep.

    Attributes:
        total: How many there are.
        done: Finished, those that were there before included.
        reused: Of these, those that were there before.
        failed: Ended without a result.
    """

    total: int
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    done: int = 0
    reused: int = 0
    failed: int = 0
    _started: float = field(default_factory=time.monotonic)
    _best: dict[str, tuple[float, str]] = field(default_factory=dict)

    def ended(self, record: RunRecord, folder: Path, was_there: bool = False) -> None:
        """Count a job that ended, and print its line."""
        finished = record.status == "finished"
        self.done += finished
        self.reused += was_there
        self.failed += not finished
        if finished and record.score is not None:
            self._best[record.task] = max(self._best.get(record.task, (-1.0, "")), (record.score, folder.name))
        self.console.print(self._line(record, folder, was_there), markup=False)

    def _line(self, record: RunRecord, folder: Path, was_there: bool) -> str:
        width = len(str(self.total))
        count = f"[{self.done + self.failed:>{width}}/{self.total}] " if self.total > 1 else ""
        parts = [f"{count}{folder.name}"]
        if record.status != "finished":
            parts.append(f"{record.status}: {record.error}")
        elif record.score is not None:
            parts.append(f"{record.metric} {record.score:.4f}")
        if was_there:
            parts.append("was there")
        elif "total" in record.seconds:
            parts.append(f"{record.seconds['total']:.0f} s")
        best = self._best.get(record.task)
        if best is not None and best[1] != folder.name:
            parts.append(f"best {best[0]:.4f} {best[1]}")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if (left := self._left()) is not None:
            parts.append(f"about {_duration(left)} left")
        return "  ".join(parts)

    def _left(self) -> float | None:
        """Seconds, by the mean over the jobs that ran; None where none did or nothing is left."""
        ran = self.done + self.failed - self.reused
        waiting = self.total - self.done - self.failed
        if not ran or not waiting:
            return None
        return (time.monotonic() - self._started) / ran * waiting


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_current: SweepProgress | None = None


@contextmanager
def shown(jobs: int) -> Iterator[SweepProgress]:
    """Within the block, jobs that end in this process are told to the terminal by `ended`."""
    global _current
    _current = SweepProgress(jobs)
    try:
        yield _current
    finally:
        _current = None


def ended(record: RunRecord, folder: Path, was_there: bool = False) -> None:
    """Tell that a job ended; no more than its line where no sweep is shown in this process."""
    (_current or SweepProgress(1)).ended(record, folder, was_there)
