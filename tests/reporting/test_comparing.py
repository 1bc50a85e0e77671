"""From folders of runs to a comparison: what is put together, what is left out, and what is said of it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import ROWS, configuration, write_run, write_sweep

from lightning_lora import RunConfig, run
from lightning_lora.config import DataConfig, LoggerConfig, LoraConfig, MergeConfig, TrainerConfig
from lightning_lora.reporting import Comparison, PredictionTable, read_record, write_predictions, write_record
from lightning_lora.reporting.collecting import collect
from lightning_lora.reporting.comparing import base_label, compare
from lightning_lora.reporting.comparison import TaskComparison
from lightning_lora.settings import ConfigError
from lightning_lora.sweeping import determines_result

ACCURACIES = {"qv": 0.75, "all": 0.9, "head": 0.6}


def compared(*folders: Path, **choices: Any) -> Comparison:
    found = collect(folders)
    return compare(found.records, determines_result=determines_result, unreadable=found.unreadable, **choices)


def the_task(*folders: Path, **choices: Any) -> TaskComparison:
    (task,) = compared(*folders, **choices).tasks
    return task


def test_options_over_their_seeds(tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES, seeds=4)
    task = the_task(tmp_path)
    assert (task.task, task.metric, task.base, task.dev_rows, task.axes) == (
        *("toy_sentiment", "accuracy", "tiny", ROWS),
        ("lora",),
    )
    assert [option.label for option in task.options] == ["all", "qv", "head"]
    for option in task.options:
        records = [read_record(tmp_path / f"{option.label}-{seed}") for seed in range(4)]
        scores = [record.score for record in records]
        assert option.seeds == (0, 1, 2, 3)
        assert option.folders == tuple(tmp_path / f"{option.label}-{seed}" for seed in range(4))
        assert list(option.scores) == scores
        assert option.mean.value == pytest.approx(np.mean(scores))
        assert (option.mean.low, option.mean.high) == pytest.approx(stats.ttest_1samp(scores, 0).confidence_interval())
        assert (option.median, option.deviation) == pytest.approx((np.median(scores), np.std(scores, ddof=1)))
        assert option.settings["lora"] == option.label
        assert [curve.epochs for curve in option.curves] == [(1.0, 2.0)] * 4
        assert [curve.scores[-1] for curve in option.curves] == scores


def test_contrasts_groups_and_the_reference(tmp_path: Path) -> None:
    write_sweep(tmp_path, {**ACCURACIES, "qkvo": 0.75}, seeds=5, rows=400)
    task = the_task(tmp_path)
    best, *others = task.options
    assert [contrast.option for contrast in task.contrasts] == [option.label for option in others]
    for contrast, option in zip(task.contrasts, others, strict=True):
        assert contrast.difference.value == pytest.approx(option.mean.value - best.mean.value)
        assert contrast.p_bootstrap <= contrast.p_holm < 0.05
        assert contrast.p_mcnemar is not None
        assert contrast.p_mcnemar < 1e-6
        assert option.relative is not None
        assert option.relative.value == pytest.approx(option.mean.value / best.mean.value)
    assert task.groups == {"all": "a", "qkvo": "b", "qv": "b", "head": "c"}
    assert task.reference == "all"
    assert best.relative is not None
    assert (best.relative.value, best.relative.low) == (1.0, None)


def test_the_reference_is_all_or_the_best_or_as_wished(tmp_path: Path) -> None:
    write_sweep(tmp_path / "one", {"qv": 0.9, "all": 0.7})
    write_sweep(tmp_path / "other", {"qv": 0.9, "q": 0.7})
    assert the_task(tmp_path / "one").reference == "all"
    assert the_task(tmp_path / "other").reference == "qv"
    assert the_task(tmp_path / "other", reference="q").reference == "q"
    with pytest.raises(ConfigError, match="no option is labelled 'qq'; did you mean 'q'"):
        compared(tmp_path / "other", reference="qq")


def test_a_learning_rate_tuned_for_each_option_stands_in_a_note_and_in_no_label(tmp_path: Path) -> None:
    rates = {"qv": 1e-3, "all": 5e-4, "qkvo": 1e-3}
    for lora, lr in rates.items():
        write_run(tmp_path / lora, np.arange(ROWS) % 4 > 0, config=configuration(lora, lr=lr))
    task = the_task(tmp_path, reference="all")
    assert {option.label: option.settings["lr"] for option in task.options} == rates
    assert "Each option had its own lr: all 0.0005, the others 0.001." in task.notes


def test_what_cannot_be_compared_is_kept_apart(tmp_path: Path) -> None:
    right = np.ones(ROWS, dtype=bool)
    config = configuration()
    write_run(tmp_path / "a", right, config=config)
    write_run(tmp_path / "b", right, config=config, task="toy_acceptability")
    write_run(tmp_path / "c", right, config=config, base={"name": "tiny", "revision": None, "fingerprint": "other"})
    write_run(tmp_path / "d", right[:100], config=config)
    write_run(tmp_path / "e", right, config=config, data={"fingerprint": "x", "rows": {"train": 8, "held_out": ROWS}})
    assert [[run.folder.name for run in task.unfinished] for task in compared(tmp_path).tasks] == [[]] * 5


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("tiny", "tiny"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("/data/models/minilm/model", "…/minilm/model"),
        ("../models/minilm", "…/models/minilm"),
    ],
)
def test_of_a_folder_the_heading_says_the_end(name: str, label: str) -> None:
    assert base_label(name) == label


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


def test_what_merging_changed_is_summed_over_the_runs_that_were_merged(tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES)
    assert not any("Merging" in note for note in the_task(tmp_path).notes)
    for name, changed in (("qv-0", 2), ("qv-1", 0), ("all-2", 1)):
        record = read_record(tmp_path / name)
        check = {"changed_predictions": changed, "rows": 1000, "max_logit_difference": 1e-6}
        write_record(replace(record, merge_check=check), tmp_path / name)
    assert "Merging changed 3 of 3,000 predictions." in the_task(tmp_path).notes


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


def test_a_run_on_other_examples_is_left_out(tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES)
    generator = np.random.default_rng(1)
    shutil.rmtree(tmp_path / "qv-1")
    record = write_run(tmp_path / "qv-1", generator.random(ROWS - 1) < 0.7, config=configuration(seed=1))
    write_record(replace(record, data=read_record(tmp_path / "qv-0").data), tmp_path / "qv-1")
    (run,) = the_task(tmp_path).unfinished
    assert (run.folder.name, run.error) == ("qv-1", "it was scored on other dev examples than the other runs")


def test_nothing_finished_is_no_option(tmp_path: Path) -> None:
    record = write_run(tmp_path / "a", np.ones(ROWS, dtype=bool), config=configuration())
    write_record(replace(record, status="running", score=None, metrics={}, seconds={}), tmp_path / "a")
    task = the_task(tmp_path)
    assert (task.options, task.contrasts, task.groups, len(task.unfinished)) == ((), (), {}, 1)


@pytest.mark.parametrize(
    ("seeds", "says", "not_said"),
    [(1, "One seed an option", "standard errors"), (2, "12.7 standard errors", "One seed"), (5, "last epoch", "With")],
)
def test_notes_on_seeds(seeds: int, says: str, not_said: str, tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES, seeds=seeds)
    text = "\n".join(the_task(tmp_path).notes)
    assert says in text
    assert not_said not in text


def test_one_seed_has_an_interval_over_examples_alone(tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES, seeds=1)
    best = the_task(tmp_path).options[0]
    assert (best.mean.low, best.deviation) == (None, None)
    assert best.over_examples is not None
    assert best.over_examples.high is not None
    binomial = 1.96 * (best.mean.value * (1 - best.mean.value) / ROWS) ** 0.5
    assert best.over_examples.high - best.mean.value == pytest.approx(binomial, rel=0.06)


def test_how_much_the_best_epoch_flatters(tmp_path: Path) -> None:
    right = np.arange(ROWS) % 4 > 0
    for seed in (0, 1):
        write_run(tmp_path / str(seed), right, config=configuration(seed=seed), best=0.75 + 0.02 * (seed + 1))
    task = the_task(tmp_path)
    assert task.options[0].best_epoch_scores == pytest.approx((0.77, 0.79))
    assert any("here by 3.0 points on average" in note for note in task.notes)


def test_a_log_that_was_cut_or_written_twice(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"qv": 0.7}, seeds=1)
    with (tmp_path / "qv-0" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 49, "epoch": 1, "dev/score": 0.5}\n{"step": 50, "epoch": 2, "dev/score": nu')
    (curve,) = the_task(tmp_path).options[0].curves
    assert curve.epochs == (1.0, 2.0)
    assert curve.scores[1] == 0.5
    (tmp_path / "qv-0" / "metrics.jsonl").unlink()
    assert the_task(tmp_path).options[0].curves == ()


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


def test_a_regression_has_no_right_and_wrong(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(ROWS).astype(np.float32) * 5
    for lora, noise in (("qv", 0.5), ("head", 2.0)):
        for seed in range(3):
            folder = tmp_path / f"{lora}-{seed}"
            found = (labels + generator.normal(0, noise, ROWS)).astype(np.float32)
            fields = {"metric": "pearson", "score": float(stats.pearsonr(labels, found.astype(float)).statistic)}
            write_run(folder, np.ones(ROWS, dtype=bool), config=configuration(lora, seed=seed), **fields)
            write_predictions({"validation": PredictionTable(np.arange(ROWS), labels, found[:, None])}, folder)
    (contrast,) = the_task(tmp_path).contrasts
    assert contrast.option == "head"
    assert contrast.p_mcnemar is None
    assert contrast.p_holm == contrast.p_bootstrap < 0.05


def test_of_two_dev_splits_the_first_is_what_the_score_is_of(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"qv": 0.75}, seeds=1)
    folder = tmp_path / "qv-0"
    rows = {"train": 800, "matched": ROWS, "mismatched": 50}
    write_record(replace(read_record(folder), data={"fingerprint": "x", "rows": rows}), folder)
    (folder / "predictions.parquet").rename(folder / "predictions_matched.parquet")
    assert len(the_task(tmp_path).options) == 1


def test_runs_that_ran(tmp_path: Path) -> None:
    for method in ("lora", "head"):
        config = RunConfig(
            epochs=1,
            lora=LoraConfig(method=method),
            data=DataConfig(train_rows=64, cache_dir=str(tmp_path / "cache")),
            trainer=TrainerConfig(accelerator="cpu", progress_bar=False),
            logger=LoggerConfig(wandb="disabled"),
            merge=MergeConfig(at_end=False),
        )
        run(config, tmp_path / method)
    task = the_task(tmp_path)
    assert not task.unfinished
    assert {option.label for option in task.options} == {"qv", "head"}
    for option in task.options:
        assert option.scores == (read_record(option.folders[0]).score,)
        assert [curve.scores for curve in option.curves] == [option.scores]


def test_two_hundred_runs_without_torch(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for rank in range(1, 41):
        for seed in range(5):
            write_run(
                tmp_path / f"{rank:02}-{seed}",
                generator.random(1000) < 0.8,
                config=configuration(rank=rank, seed=seed),
            )
    program = (
        "import sys; from lightning_lora.cli.main import main; main(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    command = [sys.executable, "-c", program, "report", str(tmp_path), "--format", "csv"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 41
    assert first.stdout == second.stdout
