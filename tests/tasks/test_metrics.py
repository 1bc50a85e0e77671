import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from lightning_lora.tasks import METRICS, TASKS, custom_task, score

TWO = custom_task(text_columns=["text"], labels=["no", "yes"], metrics=["accuracy", "f1", "matthews"])
FOUR = custom_task(text_columns=["text"], labels=["a", "b", "c", "d"], metrics=["accuracy", "matthews"])
VALUE = custom_task(text_columns=["text"])


def one_hot_logits(predictions: np.ndarray, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(predictions), classes).float()


@pytest.mark.parametrize(("task", "classes"), [(TWO, 2), (FOUR, 4)])
@pytest.mark.parametrize("rows", [300, 20_000, 400_000])
def test_classification_agrees_with_scikit_learn(task, classes: int, rows: int) -> None:
    """At 400,000 rows products of two counts still fit fp64, and those of four do not."""
    rng = np.random.default_rng(rows)
    labels = rng.integers(0, classes, rows)
    predictions = np.where(rng.random(rows) < 0.6, labels, rng.integers(0, classes, rows))
    logits = one_hot_logits(predictions, classes) + torch.from_numpy(rng.random((rows, classes)) * 0.9)
    expected = {"accuracy": sk.accuracy_score(labels, predictions)}
    if classes == 2:
        expected["f1"] = sk.f1_score(labels, predictions)
    expected["matthews"] = sk.matthews_corrcoef(labels, predictions)
    measured = score(task, logits, torch.from_numpy(labels))
    assert list(measured) == list(task.metrics)
    assert measured == pytest.approx(expected, rel=1e-12)
    shifted = score(task, logits, torch.from_numpy(np.roll(labels, 1)))
    assert shifted != pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e6])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_regression_agrees_with_scipy_at_any_scale(scale: float, offset: float) -> None:
    rng = np.random.default_rng(3)
    labels = np.round(rng.random(500) * 5 * 4) / 4
    predictions = (labels + rng.normal(size=500)) * scale + offset * scale
    logits = torch.from_numpy(predictions)[:, None]
    measured = score(VALUE, logits, torch.from_numpy(labels.astype(np.float32)))
    assert measured["pearson"] == pytest.approx(stats.pearsonr(predictions, labels).statistic, rel=1e-12)
    assert measured["spearman"] == pytest.approx(stats.spearmanr(predictions, labels).statistic, rel=1e-12)


def test_half_precision_logits_are_scored_as_they_are() -> None:
    rng = np.random.default_rng(0)
    labels, noise = rng.random(200).astype(np.float32), rng.random(200)
    half = torch.from_numpy(labels + noise)[:, None].to(torch.bfloat16)
    measured = score(VALUE, half, torch.from_numpy(labels))
    assert measured["pearson"] == pytest.approx(stats.pearsonr(half[:, 0].double(), labels).statistic, rel=1e-12)


def test_score_is_over_the_whole_set_not_a_mean_over_batches() -> None:
    labels = torch.tensor([1, 0, 0, 0, 1, 1, 1, 1])
    logits = one_hot_logits(np.array([1, 1, 1, 0, 1, 1, 0, 1]), 2)
    whole = score(TWO, logits, labels)["f1"]
    halves = [score(TWO, logits[part], labels[part])["f1"] for part in (slice(0, 4), slice(4, 8))]
    assert whole == pytest.approx(sk.f1_score(labels, logits.argmax(1)))
    assert sum(halves) / 2 != pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0]])
@pytest.mark.parametrize("predicted", [0, 1])
def test_constant_predictions_and_one_class_have_scikit_learns_value(labels: list[int], predicted: int) -> None:
    predictions = np.full(4, predicted)
    measured = score(TWO, one_hot_logits(predictions, 2), torch.tensor(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": sk.accuracy_score(labels, predictions),
            "f1": sk.f1_score(labels, predictions, zero_division=0),
            "matthews": sk.matthews_corrcoef(labels, predictions),
        }
    assert measured == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [([2.5, 2.5, 2.5], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]), ([0.1, 0.1], [0.3, 0.3]), ([1.0], [4.0])],
)
def test_a_constant_side_gives_zero_correlation(predictions: list[float], labels: list[float]) -> None:
    measured = score(VALUE, torch.tensor(predictions)[:, None], torch.tensor(labels))
    assert measured == {"pearson": 0.0, "spearman": 0.0}


def test_regression_may_have_one_constant_step_away_from_constant() -> None:
    almost = torch.full((50, 1), 3.0)
    almost[7] = 3.0000002
    labels = torch.linspace(0, 5, 50)
    measured = score(VALUE, almost, labels)
    expected = stats.pearsonr(almost[:, 0].double().numpy(), labels.double().numpy()).statistic
    assert measured["pearson"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("task", "width"), [(VALUE, 1), (TWO, 2)])
def test_logits_that_are_not_finite_are_refused(task, width: int, value: float) -> None:
    logits = torch.zeros(5, width)
    logits[3, 0] = value
    with pytest.raises(ValueError, match=r"logits of 1 of 5 rows are not finite, the first at position 3"):
        score(task, logits, torch.zeros(5) if width == 1 else torch.zeros(5, dtype=torch.long))


def test_logits_of_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="task custom has 2 outputs, the logits 3"):
        score(TWO, torch.zeros(5, 3), torch.zeros(5, dtype=torch.long))


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows to score"):
        score(TWO, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20),
    st.sampled_from(["accuracy", "matthews"]),
)
def test_no_metric_is_ever_nan(pairs: list[tuple[int, int]], metric: str) -> None:
    predictions, labels = (torch.tensor(column) for column in zip(*pairs, strict=True))
    value = METRICS[metric](predictions, labels, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {"accuracy": sk.accuracy_score, "matthews": sk.matthews_corrcoef}[metric](labels, predictions)
    assert value == pytest.approx(expected, rel=1e-12)


def test_every_task_scores_its_own_metrics() -> None:
    for task in TASKS.values():
        labels = torch.tensor([0, 1, 0, 1]) if not task.is_regression else torch.tensor([0.0, 1.0, 2.0, 5.0])
        logits = torch.eye(4)[:, : task.num_outputs]
        assert list(score(task, logits, labels)) == list(task.metrics)
