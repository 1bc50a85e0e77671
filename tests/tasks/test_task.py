import json
import subprocess
import sys

import pytest

from lightning_lora.tasks import (
    METRIC_FACTS,
    METRICS,
    TASKS,
    TOY_TASKS,
    UnknownTaskError,
    custom_task,
    find_task,
    imported_task,
    numbered_labels,
)

GLUE_PAPER_TABLE_1 = {
    "cola": ["matthews"],
    "sst2": ["accuracy"],
    "mrpc": ["accuracy", "f1"],
    "qqp": ["accuracy", "f1"],
    "stsb": ["pearson", "spearman"],
    "mnli": ["accuracy"],
    "qnli": ["accuracy"],
    "rte": ["accuracy"],
    "wnli": ["accuracy"],
}


def test_the_nine_glue_tasks_have_the_metrics_of_the_paper() -> None:
    glue = {name: sorted(task.metrics) for name, task in TASKS.items() if name not in TOY_TASKS}
    assert glue == GLUE_PAPER_TABLE_1


@pytest.mark.parametrize(
    ("name", "headline"),
    [
        ("cola", "matthews"),
        ("mrpc", "f1"),
        ("qqp", "f1"),
        ("stsb", "pearson"),
        ("mnli", "accuracy"),
        ("toy_acceptability", "matthews"),
        ("toy_similarity", "pearson"),
    ],
)
def test_headline(name: str, headline: str) -> None:
    assert TASKS[name].headline == headline


def test_outputs_and_splits() -> None:
    assert (TASKS["stsb"].num_outputs, TASKS["stsb"].is_regression, TASKS["stsb"].label_range) == (1, True, (0.0, 5.0))
    assert (TASKS["mnli"].num_outputs, TASKS["toy_entailment"].num_outputs, TASKS["cola"].num_outputs) == (3, 3, 2)
    assert TASKS["mnli"].dev_splits == ("validation_matched", "validation_mismatched")
    assert sorted(TOY_TASKS) == ["toy_acceptability", "toy_entailment", "toy_sentiment", "toy_similarity"]


def test_label_order_is_that_of_the_hub() -> None:
    # The one place where the two entailment tasks of GLUE differ: rte and qnli have entailment=0, wnli has it at 1.
    assert TASKS["rte"].labels.index("entailment") == TASKS["qnli"].labels.index("entailment") == 0
    assert TASKS["wnli"].labels.index("entailment") == 1
    assert TASKS["mnli"].labels == ("entailment", "neutral", "contradiction")


def test_every_metric_fact_has_its_function() -> None:
    assert set(METRIC_FACTS) == set(METRICS)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UnknownTaskError, match=r"no task 'sst_2'; did you mean 'sst2'\?; there are cola, "):
        find_task("sst_2")
    assert find_task("rte") is TASKS["rte"]


def test_custom_task_defaults() -> None:
    stars = custom_task(text_columns=["review"], labels=[1, 2, 3], label_column="stars")
    assert (stars.labels, stars.metrics, stars.headline) == (("1", "2", "3"), ("accuracy",), "accuracy")
    rating = custom_task(text_columns=["a", "b"], dev_splits=["dev", "hard"])
    assert (rating.num_outputs, rating.metrics, rating.headline) == (1, ("pearson", "spearman"), "pearson")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"text_columns": []}, "one column for single texts, two for pairs"),
        ({"text_columns": ["a", "b", "c"]}, "one column for single texts, two for pairs"),
        ({"text_columns": "review"}, r"must be a list, as in text_columns=\[review\]"),
        ({"text_columns": ["a", "a"]}, "text_columns names 'a' twice"),
        ({"label_column": "a"}, "other than the text columns"),
        ({"labels": ["only"]}, "at least two classes, or none for regression"),
        ({"labels": ["x", "y", "x"]}, "labels names 'x' twice"),
        ({"metrics": ["acuracy"]}, "no metric 'acuracy'; did you mean 'accuracy'"),
        ({"metrics": ["pearson"]}, "'pearson' does not fit a task with 2 labels; use accuracy or f1 or matthews"),
        ({"metrics": ["f1"], "labels": ["x", "y", "z"]}, "does not fit a task with 3 labels; use accuracy or matthews"),
        ({"metrics": ["f1"], "labels": []}, r"no labels \(regression\); use pearson or spearman"),
        ({"metrics": ["accuracy"], "headline": "f1"}, r"headline='f1' is not one of its metrics \['accuracy'\]"),
        ({"dev_splits": []}, "at least one of dev_splits"),
        ({"dev_splits": ["train"]}, "splits names 'train' twice"),
        ({"label_range": (0.0, 1.0)}, "label_range is for regression"),
        ({"label_range": (1.0, 0.0), "labels": []}, "from low to high"),
    ],
)
def test_a_wrong_custom_task_is_one_clear_line(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        custom_task(**{"text_columns": ["a"], "labels": ["x", "y"], **wrong})
    assert "\n" not in str(error.value)


def test_of_an_imported_adapter_the_labels_are_known_and_perhaps_the_task() -> None:
    named, unnamed = imported_task(("no", "yes"), "mrpc"), imported_task(())
    assert (named.name, named.labels, named.num_outputs) == ("mrpc", ("no", "yes"), 2)
    assert (unnamed.name, unnamed.is_regression) == ("imported", True)


def test_so_many_outputs_have_names_or_are_a_regression() -> None:
    assert numbered_labels(3) == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert numbered_labels(1) == ()


def test_the_tables_do_not_load_torch() -> None:
    code = "import sys, json, lightning_lora.tasks as t; t.TASKS; print(json.dumps([m in sys.modules for m in {}]))"
    modules = ["torch", "torchmetrics"]
    before = subprocess.run([sys.executable, "-c", code.format(modules)], capture_output=True, text=True, check=True)
    assert json.loads(before.stdout) == [False, False]
