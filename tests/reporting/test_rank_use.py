"""What a report reads of spectra: the last whole table of each run, and its mean over the seeds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import compared, configuration, write_run, write_sweep

from lightning_lora.reporting.comparison import RankUse
from lightning_lora.reporting.rank_use import mean_over_runs, read_rank_use


def entry(block: int | None, role: str, entropy_rank: float, /, **changed: Any) -> dict[str, Any]:
    named = {"module": f"layer.{block}.{role}", "block": block, "role": role, "rank": 8}
    return named | {"entropy_rank": entropy_rank, "singular_values": [1.0]} | changed


def log(folder: Path, *tables: list[dict[str, Any]]) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        for epoch, table in enumerate(tables):
            file.write(json.dumps({"step": 9, "epoch": epoch, "spectra": table}) + "\n")


def test_the_last_table_counts_and_the_mean_is_over_the_seeds(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"qv": 0.7}, seeds=2)
    log(tmp_path / "qv-0", [entry(0, "query", 7.0)], [entry(0, "query", 2.0), entry(1, "query", 3.0)])
    log(tmp_path / "qv-1", [entry(0, "query", 4.0), entry(1, "query", 3.5)])
    found = compared(tmp_path).tasks[0].options[0].rank_use
    assert found == (RankUse("layer.0.query", 0, "query", 8, 3.0), RankUse("layer.1.query", 1, "query", 8, 3.25))


def test_without_tables_there_is_none(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"qv": 0.7, "head": 0.6}, seeds=1)
    comparison = compared(tmp_path)
    assert [option.rank_use for option in comparison.tasks[0].options] == [(), ()]
    assert read_rank_use(tmp_path / "nowhere") == ()
    assert mean_over_runs([]) == ()


@pytest.mark.parametrize(
    "damaged",
    [
        '{"step": 9, "spectra": [{"module": "a", "blo',
        '{"spectra": 3}',
        '{"spectra": [7]}',
        json.dumps({"spectra": [entry(0, "query", 2.0, rank=0)]}),
        json.dumps({"spectra": [entry(0, "query", 2.0, block="0")]}),
        json.dumps({"spectra": [entry(0, "query", 2.0, entropy_rank=None)]}),
    ],
    ids=["cut", "number", "numbers", "rank", "block", "null"],
)
def test_a_damaged_table_is_passed_over_for_the_one_before(damaged: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", np.ones(8, dtype=bool), config=configuration())
    log(tmp_path / "run", [entry(None, "dense", 5.0)])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(damaged)
    assert read_rank_use(tmp_path / "run") == (RankUse("layer.None.dense", None, "dense", 8, 5.0),)
