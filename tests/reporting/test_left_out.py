"""Runs that a comparison keeps apart, counts once or leaves out: each with its reason, and none hides another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import ROWS, compared, configuration, the_task, write_run, write_sweep

from lightning_lora.reporting import read_record, write_record

ACCURACIES = {"qv": 0.75, "all": 0.9, "head": 0.6}


def test_what_cannot_be_compared_is_kept_apart(tmp_path: Path) -> None:
    right = np.ones(ROWS, dtype=bool)
    config = configuration()
    write_run(tmp_path / "a", right, config=config)
    write_run(tmp_path / "b", right, config=config, task="toy_acceptability")
    write_run(tmp_path / "c", right, config=config, base={"name": "tiny", "revision": None, "fingerprint": "other"})
    write_run(tmp_path / "d", right[:100], config=config)
    write_run(tmp_path / "e", right, config=config, data={"fingerprint": "x", "rows": {"train": 8, "held_out": ROWS}})
    tasks = compared(tmp_path).tasks
    assert [[run.folder.name for run in task.unfinished] for task in tasks] == [[]] * 5
    assert [task.split for task in tasks] == ["validation"] * 4 + ["held_out"]


def test_a_job_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    write_sweep(tmp_path / "one", ACCURACIES)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    failed = tmp_path / "one" / "qv-1"
    write_record(replace(read_record(failed), status="failed", error="killed"), failed)
    once, twice = the_task(tmp_path / "other"), the_task(tmp_path)
    assert [option.scores for option in twice.options] == [option.scores for option in once.options]
    assert twice.options[1].folders[1] == tmp_path / "other" / "qv-1"
    assert not twice.unfinished
    assert any("9 left out" in note for note in twice.notes)


def test_of_two_copies_of_a_job_the_one_with_its_predictions_counts(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", {"qv": 0.75}, seeds=1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "qv-0" / "predictions.parquet").unlink()
    (option,) = the_task(tmp_path).options
    assert option.folders == (tmp_path / "b" / "qv-0",)


def test_a_seed_that_an_option_repeats_is_left_out(tmp_path: Path) -> None:
    """Two jobs that differ in rank, which a baseline has not."""
    right = np.arange(ROWS) % 4 > 0
    for rank in (4, 8):
        write_run(tmp_path / f"head-{rank}", right, config=configuration("head", rank=rank))
        write_run(tmp_path / f"qv-{rank}", right, config=configuration(rank=rank))
    task = the_task(tmp_path)
    assert {option.label: option.seeds for option in task.options} == {
        "head": (0,),
        "qv, rank 4": (0,),
        "qv, rank 8": (0,),
    }
    assert any("repeat a seed of their option are left out: 1." in note for note in task.notes)


def test_runs_without_a_score_are_listed_with_the_reason(tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES)
    (tmp_path / "all-0" / "predictions.parquet").unlink()
    (tmp_path / "all-1" / "predictions.parquet").write_bytes(b"PAR1")
    wrong = read_record(tmp_path / "head-1")
    write_record(replace(wrong, score=0.99), tmp_path / "head-1")
    write_record(replace(read_record(tmp_path / "qv-2"), status="failed", error="no memory"), tmp_path / "qv-2")
    (tmp_path / "qv-0" / "result.json").write_text("{")
    comparison = compared(tmp_path)
    (task,) = comparison.tasks
    said = {run.folder.name: (run.status, run.option, run.seed, run.error) for run in task.unfinished}
    assert list(said) == ["all-0", "all-1", "head-1", "qv-2"]
    assert said["qv-2"] == ("failed", "qv", 2, "no memory")
    assert all(said[name][0] == "unusable" for name in ("all-0", "all-1", "head-1"))
    assert "holds no predictions" in str(said["all-0"][3])
    assert f"the predictions give accuracy {wrong.score:.4f}, the record 0.99" in str(said["head-1"][3])
    assert {option.label: (option.seeds, option.unfinished) for option in task.options} == {
        "all": ((2,), 2),
        "head": ((0, 2), 1),
        "qv": ((1,), 1),
    }
    ((folder, reason),) = comparison.unreadable
    assert folder == tmp_path / "qv-0"
    assert "is not a run's record" in reason


def test_an_unfinished_run_counts_for_the_option_of_its_precision(tmp_path: Path) -> None:
    right = np.arange(ROWS) % 4 > 0
    for seed in range(3):
        exact = configuration(seed=seed, trainer__precision="32-true")
        write_run(tmp_path / f"exact-{seed}", right, config=exact)
        write_run(tmp_path / f"auto-{seed}", right, config=configuration(seed=seed), precision="bf16-frozen")
    stopped = replace(read_record(tmp_path / "auto-2"), status="interrupted", score=None, metrics={})
    write_record(stopped, tmp_path / "auto-2")
    task = the_task(tmp_path)
    assert {option.label: option.unfinished for option in task.options} == {
        "precision bf16-frozen": 1,
        "precision 32-true": 0,
    }
    assert [run.option for run in task.unfinished] == ["precision bf16-frozen"]


def test_a_run_on_other_examples_is_left_out(tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES)
    generator = np.random.default_rng(1)
    shutil.rmtree(tmp_path / "qv-1")
    record = write_run(tmp_path / "qv-1", generator.random(ROWS - 1) < 0.7, config=configuration(seed=1))
    write_record(replace(record, data=read_record(tmp_path / "qv-0").data), tmp_path / "qv-1")
    (run,) = the_task(tmp_path).unfinished
    assert (run.folder.name, run.error) == ("qv-1", "it was scored on other dev examples than the other runs")


@pytest.mark.parametrize(
    ("said", "tasks"),
    [(["a", "b"], [3, 3]), (["a", None], [6]), (["a", "a"], [6]), (["a", "b", None], [3, 3, 3])],
    ids=["two sets", "one set and older runs", "one set", "two sets and older runs"],
)
def test_runs_on_examples_of_other_texts_are_another_task(
    said: list[str | None], tasks: list[int], tmp_path: Path
) -> None:
    """An older record does not say which texts its examples had; it goes with the others where they agree."""
    for number, texts in enumerate(said):
        write_sweep(tmp_path / str(number), ACCURACIES, seeds=1, epochs=3 + number)
        for folder in (tmp_path / str(number)).iterdir():
            record = read_record(folder)
            examples = {"examples": {"validation": texts}} if texts else {}
            write_record(replace(record, data=record.data | examples), folder)
    found = compared(tmp_path).tasks
    assert [len(task.options) for task in found] == tasks
    assert not [run for task in found for run in task.unfinished]
    for task in found:
        labels = {option.label for option in task.options}
        assert labels == set(ACCURACIES) or len(tasks) == 1, "the settings of other data are in no label"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": {}}, "has no data.fingerprint"),
        ({"seconds": {}}, "has no seconds.fit"),
        ({"config": {"lora": {}}}, "has no config.lora.method"),
        ({"base": {}}, "has no base.name"),
        ({"parameters": {"adapter": 1, "trainable_percent": "9"}}, "has something else where a number belongs"),
        ({"data": {"fingerprint": "x", "rows": {"train": 8}}}, "names no dev split"),
    ],
)
def test_a_record_that_lacks_something_hides_no_other(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_sweep(tmp_path, {"qv": 0.75})
    file = tmp_path / "qv-0" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    comparison = compared(tmp_path)
    ((folder, reason),) = comparison.unreadable
    assert folder == tmp_path / "qv-0"
    assert said in reason
    assert comparison.tasks[0].options[0].seeds == (1, 2)
