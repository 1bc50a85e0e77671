"""What a job finds of earlier work."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lightning_lora.config import RunConfig
from lightning_lora.reporting import RunRecord, read_record, records_below, write_record
from lightning_lora.sweeping.reuse import earlier_record, may_go_on, record_failure, set_aside, take_over

FINISHED = RunRecord(
    job_id="one", status="finished", config=asdict(RunConfig()), task="toy_sentiment", metric="accuracy", score=0.5
)


def job(folder: Path, record: RunRecord = FINISHED) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_text("steps")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "predictions.parquet").write_text("predictions")
    (folder / ".hydra").mkdir()
    write_record(record, folder)
    return folder


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert earlier_record(tmp_path) is None
    (tmp_path / "result.json").write_text('{"schema_version": 1, "cut sh')
    assert earlier_record(tmp_path) is None


@pytest.mark.parametrize(
    ("record", "goes_on"),
    [
        (None, False),
        (replace(FINISHED, status="running"), True),
        (replace(FINISHED, status="interrupted"), True),
        (replace(FINISHED, status="failed"), True),
        (replace(FINISHED, status="diverged"), False),
        (replace(FINISHED, status="running", job_id="other"), False),
        (FINISHED, False),
    ],
)
def test_only_the_same_job_that_can_end_otherwise_goes_on(record: RunRecord | None, goes_on: bool) -> None:
    assert may_go_on(record, "one") == goes_on


def test_what_is_set_aside_is_kept_where_no_report_looks(tmp_path: Path) -> None:
    folder = job(tmp_path / "sweep" / "name")
    set_aside(folder, FINISHED)
    assert [entry.name for entry in folder.iterdir()] == [".hydra"]
    away = tmp_path / "sweep" / ".outdated" / "name-one"
    assert read_record(away) == FINISHED
    assert (away / "checkpoints" / "last.ckpt").read_text() == "steps"
    assert records_below(tmp_path / "sweep") == {}


def test_the_same_job_in_another_sweep_is_copied_without_its_checkpoints(tmp_path: Path) -> None:
    job(tmp_path / "narrow" / "name")
    folder = tmp_path / "wide" / "name"
    assert take_over(folder, "one") == FINISHED
    assert read_record(folder) == FINISHED
    assert sorted(entry.name for entry in folder.iterdir()) == ["adapter", "predictions.parquet", "result.json"]
    assert (folder / "adapter" / "adapter_config.json").exists()


@pytest.mark.parametrize(("name", "job_id", "status"), [
    ("name", "other", "finished"), ("name", "one", "interrupted"), ("other_name", "one", "finished"),
])  # fmt: skip
def test_no_other_job_is_copied(name: str, job_id: str, status: str, tmp_path: Path) -> None:
    job(tmp_path / "narrow" / name, replace(FINISHED, job_id=job_id, status=status))
    assert take_over(tmp_path / "wide" / "name", "one") is None
    assert not (tmp_path / "wide" / "name").exists()


def test_a_failure_is_recorded_once_and_costs_no_finished_work(tmp_path: Path) -> None:
    folder = tmp_path / "sweep" / "name"
    fresh = record_failure(folder, FINISHED.config, "no such column")
    assert read_record(folder) == fresh
    assert (fresh.status, fresh.error, fresh.task, fresh.job_id) == ("failed", "no such column", "toy_sentiment", "")
    running = replace(FINISHED, status="running", score=None)
    write_record(running, folder)
    assert record_failure(folder, FINISHED.config, "killed") == replace(running, status="failed", error="killed")
    diverged = replace(FINISHED, status="diverged", error="the loss is nan")
    write_record(diverged, folder)
    assert record_failure(folder, FINISHED.config, "the loss is nan") == diverged
    write_record(FINISHED, folder)
    assert record_failure(folder, FINISHED.config, "no such file").status == "failed"
    assert read_record(folder) == FINISHED
    assert not (tmp_path / "sweep" / ".outdated").exists()


def test_a_failure_that_cannot_be_written_is_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    failed = record_failure(tmp_path / "file" / "name", FINISHED.config, "the disk is full")
    assert (failed.status, failed.error) == ("failed", "the disk is full")
