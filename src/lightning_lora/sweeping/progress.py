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
        failed: Ended without a result.
        reused: Told of as having been there before.
    """

    total: int
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    done: int = 0
    failed: int = 0
    reused: int = 0
    _ran: int = 0
    _made: float = field(default_factory=lambda: time.monotonic())
    _began: float | None = None
    _best: dict[str, tuple[float, str]] = field(default_factory=dict)

    def ended(self, record: RunRecord, folder: Path, was_there: bool = False, running: int = 0) -> None:
        """Count a job that ended, and print its line.

        Args:
            record: The job's.
            folder: The job's.
            was_there: Whether it had been finished before.
            running: How many others are at work now.
        """
        finished = record.status == "finished"
        self.done += finished
        self.failed += not finished
        self.reused += was_there
        self._ran += not was_there
        if not was_there and self._began is None:  # importing torch, and what was there, say nothing of what is left
            self._began = max(self._made, time.monotonic() - record.seconds.get("total", 0.0))
        if finished and record.score is not None:
            self._best[record.task] = max(self._best.get(record.task, (-1.0, "")), (record.score, folder.name))
        self.console.print(self._line(record, folder, was_there, running), markup=False)

    def _line(self, record: RunRecord, folder: Path, was_there: bool, running: int) -> str:
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
        if running:
            parts.append(f"{running} running")
        if (left := self._left()) is not None:
            parts.append(f"about {_duration(left)} left")
        return "  ".join(parts)

    def _left(self) -> float | None:
        """Seconds, by the mean over the jobs that ran; None where none did or nothing is left."""
        waiting = self.total - self.done - self.failed
        if self._began is None or waiting <= 0:
            return None
        return (time.monotonic() - self._began) / self._ran * waiting


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_current: SweepProgress | None = None


@contextmanager
def shown(jobs: int, done: int = 0, failed: int = 0) -> Iterator[SweepProgress]:
    """Within the block, jobs that end in this process are told to the terminal by `ended`.

    Args:
        jobs: How many there are.
        done: Of them finished before.
        failed: Of them ended before without a result.
    """
    global _current
    _current = SweepProgress(jobs, done=done, failed=failed)
    try:
        yield _current
    finally:
        _current = None


def ended(record: RunRecord, folder: Path, was_there: bool = False, running: int = 0) -> None:
    """Tell that a job ended; no more than its line where no sweep is shown in this process."""
    (_current or SweepProgress(1)).ended(record, folder, was_there, running)
