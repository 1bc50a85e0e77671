"""The lines that a sweep tells of its jobs."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lightning_lora.reporting import RunRecord
from lightning_lora.sweeping.progress import SweepProgress

RECORD = RunRecord(
    job_id="x", status="finished", config={}, task="rte", metric="accuracy", score=0.5, seconds={"total": 61.2}
)


def test_a_line_for_each_job_with_the_best_and_the_failures_so_far() -> None:
    output = StringIO()
    progress = SweepProgress(4, console=Console(file=output, soft_wrap=True))
    progress.ended(RECORD, Path("multirun/one"), was_there=True)
    progress.ended(replace(RECORD, score=0.75), Path("multirun/two"))
    progress.ended(replace(RECORD, status="failed", score=None, error="no such file"), Path("multirun/three"))
    progress.ended(replace(RECORD, score=0.625), Path("multirun/four"))
    first, second, third, fourth = output.getvalue().splitlines()
    assert first == "[1/4] one  accuracy 0.5000  was there"
    assert second.startswith("[2/4] two  accuracy 0.7500  61 s")
    assert second.endswith(" left")
    assert third.startswith("[3/4] three  failed: no such file  61 s  best 0.7500 two  1 failed")
    assert fourth == "[4/4] four  accuracy 0.6250  61 s  best 0.7500 two  1 failed"


def test_what_is_left_is_reckoned_from_the_start_of_the_first_job_that_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from that of the sweep, which has torch to import, nor over what an earlier start has done."""
    output, now = StringIO(), 1000.0
    monkeypatch.setattr("lightning_lora.sweeping.progress.time.monotonic", lambda: now)
    progress = SweepProgress(7, console=Console(file=output, soft_wrap=True), done=1)
    now += 50
    progress.ended(replace(RECORD, score=0.9), Path("one"), was_there=True)
    now += 10
    progress.ended(replace(RECORD, seconds={"total": 10.0}), Path("two"), running=2)
    now += 10
    progress.ended(replace(RECORD, seconds={"total": 10.0}), Path("three"))
    assert [line.split("  ", 2)[2] for line in output.getvalue().splitlines()] == [
        "was there",
        "10 s  best 0.9000 one  2 running  about 40 s left",
        "10 s  best 0.9000 one  about 30 s left",
    ]


def test_the_best_of_each_task_is_its_own() -> None:
    output = StringIO()
    progress = SweepProgress(2, console=Console(file=output, soft_wrap=True))
    progress.ended(replace(RECORD, score=0.9), Path("one"))
    progress.ended(replace(RECORD, task="cola", metric="matthews", score=0.2), Path("two"))
    assert "best" not in output.getvalue()
