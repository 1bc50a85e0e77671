"""A record is of one machine, one version of the code and one set of settings, and says so where it is not."""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import records
import torch
from records import MixedRecordsError, content_of, earlier_rows, provenance, record_of, write_record

MADE_BY = {"processor": "one", "native_bf16": False, "torch": "2.13.0", "sources": "aa", "commit": "c1"}


def record() -> dict[str, Any]:
    options = argparse.Namespace(model="tiny", data="glue", lr=1e-3, sides=["here", "here, fp32"], rounds=2)
    rows = [{"task": "rte", "round": 0, "provenance": MADE_BY}]
    return record_of(options, "rte", rows, settings=("lr",), versions=("torch",), more=("sides", "rounds"))


def test_the_same_again_goes_on(tmp_path: Path) -> None:
    assert earlier_rows(tmp_path / "r.json", record(), MADE_BY) == []
    write_record(tmp_path / "r.json", record())
    assert earlier_rows(tmp_path / "r.json", record(), MADE_BY) == record()["rows"]
    elsewhere = MADE_BY | {"commit": "c2"}
    assert earlier_rows(tmp_path / "r.json", record(), elsewhere) == record()["rows"], "the same sources, committed"


@pytest.mark.parametrize("name", ["processor", "native_bf16", "torch", "sources"])
def test_rows_made_by_others_are_not_joined(name: str, tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", record())
    with pytest.raises(MixedRecordsError, match=rf"r\.json holds rows with another {name} .*--out"):
        earlier_rows(tmp_path / "r.json", record(), MADE_BY | {name: "other"})


@pytest.mark.parametrize("part", ["model", "machine", "settings", "versions"])
def test_nor_rows_of_other_settings(part: str, tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", record())
    now = copy.deepcopy(record())
    now[part] = now[part] | dict.fromkeys(now[part], "other") if isinstance(now[part], dict) else "other"
    with pytest.raises(MixedRecordsError, match="now it is other"):
        earlier_rows(tmp_path / "r.json", now, MADE_BY)


def test_rows_of_the_first_format_are_not_joined(tmp_path: Path) -> None:
    old = record()
    del old["rows"][0]["provenance"]
    write_record(tmp_path / "r.json", old)
    with pytest.raises(MixedRecordsError, match="another processor \\(not recorded; now it is one\\)"):
        earlier_rows(tmp_path / "r.json", record(), MADE_BY)


def test_the_command_is_whole() -> None:
    assert record()["command"].endswith("--tasks rte --lr 0.001 --sides here 'here, fp32' --rounds 2")
    told = {"lora": "qv", "rank": 8, "max_length": 256, "model_content": None, "data_content": None, "lr": 1e-3}
    assert record()["settings"] == told, "of a model and data that are no folders"


def test_folders_are_told_by_what_is_in_them(tmp_path: Path) -> None:
    for name in ("one", "same", "other", "renamed"):
        (tmp_path / name / "rte").mkdir(parents=True)
        (tmp_path / name / "rte" / ("a" if name == "renamed" else "b")).write_text("2" if name == "other" else "1")
    assert content_of(tmp_path / "one") == content_of(tmp_path / "same")
    assert len({content_of(tmp_path / name) for name in ("one", "other", "renamed")}) == 3
    options = argparse.Namespace(model=str(tmp_path / "one"), data=str(tmp_path / "same"))
    told = record_of(options, "rte", [], settings=(), versions=())["settings"]
    assert told["model_content"] == content_of(tmp_path / "one")
    assert told["data_content"] == content_of(tmp_path / "same" / "rte")


def test_a_provenance_says_where_and_by_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = provenance()
    assert found["torch"] == torch.__version__
    assert found["processor"]
    json.dumps(found)
    (tmp_path / "one.py").write_text("1")
    monkeypatch.setattr(records, "BENCHMARKS", tmp_path)
    with_one = provenance()
    (tmp_path / "one.py").write_text("2")
    assert len({found["sources"], with_one["sources"], provenance()["sources"]}) == 3
    assert with_one["commit"] is None, "there is no git in that folder"
