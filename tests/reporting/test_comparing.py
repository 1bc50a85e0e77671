"""From folders of runs to a comparison: what is put together, and what is said of it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from short_runs import short_configuration
from synthetic_runs import ROWS, compared, configuration, the_task, write_run, write_sweep

from lightning_lora import RunConfig, run
from lightning_lora.config import DataConfig, LoggerConfig, LoraConfig, MergeConfig, TrainerConfig
from lightning_lora.reporting import PredictionTable, read_record, write_predictions, write_record
from lightning_lora.reporting.comparing import base_label
from lightning_lora.settings import ConfigError

ACCURACIES = {"qv": 0.75, "all": 0.9, "head": 0.6}


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


def test_notes_are_of_the_runs_that_the_table_keeps(tmp_path: Path) -> None:
    for lora, lr in {"qv": 1e-3, "all": 5e-4, "qkvo": 2e-3}.items():
        write_run(tmp_path / lora, np.arange(ROWS) % 4 > 0, config=configuration(lora, lr=lr))
        check = {"changed_predictions": 1, "rows": ROWS, "max_logit_difference": 1e-6}
        write_record(replace(read_record(tmp_path / lora), merge_check=check), tmp_path / lora)
    (tmp_path / "qkvo" / "predictions.parquet").unlink()
    task = the_task(tmp_path)
    assert [option.label for option in task.options] == ["all", "qv"]
    assert "Each option had its own lr: all 0.0005, qv 0.001." in task.notes
    assert "Merging changed 2 of 400 predictions." in task.notes
    (tmp_path / "qv" / "predictions.parquet").unlink()
    alone = the_task(tmp_path)
    assert [run.option for run in alone.unfinished] == ["qkvo", "qv"]
    assert "Merging changed 1 of 200 predictions." in alone.notes
    assert not any("lr" in note or "learning rate" in note for note in alone.notes), "one rate is left"


def test_a_rate_that_only_a_failed_run_had_is_said_in_labels_and_in_no_note(tmp_path: Path) -> None:
    for name, lr in {"a": 1e-3, "b": 1e-2}.items():
        write_run(tmp_path / name, np.arange(ROWS) % 4 > 0, config=configuration(lr=lr))
    (tmp_path / "b" / "predictions.parquet").unlink()
    task = the_task(tmp_path)
    assert [option.label for option in task.options] == ["lr 0.001"]
    assert [run.option for run in task.unfinished] == ["lr 0.01"]
    assert not any("learning rate" in note for note in task.notes)


def test_one_batch_and_all_batches_are_two_options_and_told_apart(tmp_path: Path) -> None:
    """To Lightning 1 is one batch and 1.0 all of them."""
    for lora, limit in (("qv", 1), ("qv", 1.0), ("all", 1)):
        config = configuration(lora)
        config["trainer"]["limit_train_batches"] = limit
        write_run(tmp_path / f"{lora}-{limit}", np.arange(ROWS) % 4 > 0, config=config)
    labels = {option.label for option in the_task(tmp_path).options}
    assert labels == {f"{lora}, limit_train_batches {limit}" for lora, limit in (("qv", 1), ("qv", "1.0"), ("all", 1))}
    (tmp_path / "qv-1" / "result.json").unlink()
    assert "Each option had its own trainer.limit_train_batches: all 1, qv 1.0." in the_task(tmp_path).notes


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


def test_what_merging_changed_is_summed_over_the_runs_that_were_merged(tmp_path: Path) -> None:
    write_sweep(tmp_path, ACCURACIES)
    assert not any("Merging" in note for note in the_task(tmp_path).notes)
    for name, changed in (("qv-0", 2), ("qv-1", 0), ("all-2", 1)):
        record = read_record(tmp_path / name)
        check = {"changed_predictions": changed, "rows": 1000, "max_logit_difference": 1e-6}
        write_record(replace(record, merge_check=check), tmp_path / name)
    assert "Merging changed 3 of 3,000 predictions." in the_task(tmp_path).notes


def test_the_rows_are_those_that_were_scored(tmp_path: Path) -> None:
    """With ``trainer.limit_val_batches`` they are the first of the split."""
    write_run(tmp_path / "a", np.ones(ROWS, dtype=bool), config=configuration())
    whole = the_task(tmp_path)
    assert whole.dev_rows == ROWS
    assert not any("dev rows" in note for note in whole.notes)
    data = {"name": "toy_sentiment", "fingerprint": "da7a", "rows": {"train": 800, "validation": 1000}}
    write_run(tmp_path / "b" / "part", np.ones(32, dtype=bool), config=configuration(), data=data)
    part = the_task(tmp_path / "b")
    assert part.dev_rows == 32
    assert "Scored on 32 of 1,000 dev rows." in part.notes


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


def test_runs_on_other_rows_are_told_apart(tmp_path: Path) -> None:
    """Subsets of two training files, and two dev files that are sorted by class: all that the predictions show of
    them is alike.
    """
    for data, train, dev in (("one", "fine", "good"), ("two", "great", "good"), ("three", "fine", "right")):
        for split, word, rows in (("train", train, 40), ("validation", dev, 16)):
            lines = [f"{row * 2 // rows}\t{row} is {'not ' * (2 * row < rows)}{word}" for row in range(rows)]
            folder = tmp_path / "data" / data
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{split}.tsv").write_text("\n".join(["label\tsentence", *lines]), encoding="utf-8")
    for data, seed in (("one", 0), ("one", 1), ("two", 0), ("two", 1), ("three", 0)):
        source = DataConfig(task="toy_sentiment", path=str(tmp_path / "data" / data), train_rows=24)
        run(short_configuration(data=source, seed=seed), tmp_path / "runs" / f"{data}-{seed}")
    tasks = compared(tmp_path / "runs").tasks
    options = [{tuple(folder.name for folder in option.folders) for option in task.options} for task in tasks]
    assert sorted(options, key=len) == [{("three-0",)}, {("one-0", "one-1"), ("two-0", "two-1")}]


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


def test_a_difference_is_that_of_the_means_shown_whatever_the_seeds(tmp_path: Path) -> None:
    """On the two seeds that both have, `qv` is the better by 10 points, and on all of its own the worse."""
    scores = {"all": (0.9, 0.9, 0.9, 0.7, 0.7), "qv": (0.8, 0.8, 0.6, 0.6, 0.6)}
    for lora, first in (("all", 0), ("qv", 3)):
        for seed, score in enumerate(scores[lora], start=first):
            right = np.arange(400) < 400 * score
            write_run(tmp_path / f"{lora}-{seed}", right, config=configuration(lora, seed=seed))
    task = the_task(tmp_path)
    best, other = task.options
    assert (best.label, other.label) == ("all", "qv")
    assert task.contrasts[0].difference.value == pytest.approx(other.mean.value - best.mean.value)
    assert other.mean.value < best.mean.value
