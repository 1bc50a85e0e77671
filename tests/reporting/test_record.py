"""The record survives a round trip, and what is no record is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from lightning_lora.reporting.record import RunRecord, read_record, write_record

RECORD = RunRecord(job_id="ab", status="finished", config={"rank": 8}, task="cola", metric="matthews", score=0.5)


def test_round_trip(tmp_path: Path) -> None:
    write_record(RECORD, tmp_path)
    assert read_record(tmp_path) == read_record(tmp_path / "result.json") == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    write_record(replace(RECORD, score=math.nan, metrics={"validation": {"loss": math.inf}}), tmp_path)
    assert read_record(tmp_path).score is None
    assert "NaN" not in (tmp_path / "result.json").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a run's record"),
        ("[]", "schema_version None"),
        (json.dumps({"schema_version": 99}), "schema_version 99"),
        (json.dumps({"schema_version": 1, "scor": 0.5}), "does not hold a record's fields"),
    ],
)
def test_what_is_no_record_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_record(tmp_path)


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run's folder, it holds no result\.json"):
        read_record(tmp_path)
