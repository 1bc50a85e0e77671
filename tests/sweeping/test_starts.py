"""What a warm start was from: the seeds of an option that each began with a run of their own stay one option."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from short_runs import short_configuration
from synthetic_runs import the_task

from lightning_lora.config import DataConfig, RunConfig
from lightning_lora.reporting import read_record, write_record
from lightning_lora.running import run, run_once
from lightning_lora.sweeping.starts import origin_of


def warm(start: Path, **changes: object) -> RunConfig:
    task = DataConfig(task="toy_entailment", train_rows=24)
    return short_configuration(data=task, warm_start=str(start), **changes)


def test_seeds_that_began_with_seeds_are_one_option_and_with_other_settings_another(tmp_path: Path) -> None:
    starts, runs = tmp_path / "starts", tmp_path / "runs"
    for name, lr, seed in (("a0", 5e-3, 0), ("a1", 5e-3, 1), ("b0", 1e-3, 0)):
        run(short_configuration(lr=lr, seed=seed), starts / name)
        run(warm(starts / name, seed=seed), runs / name)
    run(replace(warm(starts / "a0"), warm_start=None), runs / "cold")
    options = {option.folders[0].name: option for option in the_task(runs).options}
    assert {name: option.seeds for name, option in options.items()} == {"a0": (0, 1), "b0": (0,), "cold": (0,)}
    assert {str(option.settings["warm_start"]) for option in options.values()} == {"toy_sentiment", "None"}
    assert options["a0"].label.startswith("warm_start toy_sentiment, settings ")
    assert options["cold"].label == "warm_start null"
    began = [read_record(runs / name).base["warm_start"] for name in ("a0", "a1", "b0")]
    assert [start["job_id"] for start in began] == [read_record(starts / name).job_id for name in ("a0", "a1", "b0")]


def test_it_is_known_from_either_folder_of_a_run_that_finished_and_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    record = run(short_configuration(), folder)
    origin = origin_of(folder)
    assert origin["job_id"] == record.job_id
    assert origin_of(folder / "adapter") == origin
    monkeypatch.chdir(folder / "adapter")
    assert origin_of(Path()) == origin
    shutil.copytree(folder / "adapter", folder / "copied")
    assert origin_of(folder / "copied") == {}, "who knows of which run"
    write_record(replace(record, status="running"), folder)
    assert origin_of(folder) == {}


def test_what_the_runs_must_share_is_not_told(tmp_path: Path) -> None:
    """Else options that differ in rank would differ in what they began with as well."""
    record = run(short_configuration(), tmp_path)
    origin = origin_of(tmp_path)
    for changed, same in (({"rank": 4}, True), ({"seed": 3}, True), ({"lr": 1.0}, False), ({"epochs": 9}, False)):
        write_record(replace(record, config=record.config | changed), tmp_path)
        assert (origin_of(tmp_path) == origin) == same, changed
    deeper = replace(record, base=record.base | {"warm_start": {"fingerprint": "f", "settings": "5e"}})
    write_record(deeper, tmp_path)
    assert origin_of(tmp_path) != origin


def test_a_job_whose_start_was_overwritten_is_another_job(tmp_path: Path) -> None:
    start, job = tmp_path / "start", tmp_path / "sweep" / "job"
    run(short_configuration(), start)
    first, _ = run_once(warm(start), job)
    assert run_once(warm(start), job) == (first, True)
    run(short_configuration(seed=1), start)
    second, was_there = run_once(warm(start), job)
    assert not was_there
    assert second.job_id != first.job_id
