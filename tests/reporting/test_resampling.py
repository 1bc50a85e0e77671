"""Metrics over resamples are those of scikit-learn, SciPy and `tasks.metrics` on the rows written out."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sklearn_metrics

from lightning_lora.reporting.resampling import example_covariance, resampled_scores
from lightning_lora.tasks import METRICS

ROWS, RUNS = 60, 3
ORACLES = {
    "accuracy": sklearn_metrics.accuracy_score,
    "f1": lambda labels, found: sklearn_metrics.f1_score(labels, found, zero_division=0.0),
    "matthews": sklearn_metrics.matthews_corrcoef,
    "pearson": lambda labels, found: stats.pearsonr(labels, found).statistic,
    "spearman": lambda labels, found: stats.spearmanr(labels, found).statistic,
}


def drawn(metric: str, classes: int = 2) -> tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.float64]]:
    """Labels, predictions of some runs that are better than chance, and some resamples; numbers have ties."""
    generator = np.random.default_rng(0)
    counts = np.stack([np.bincount(generator.integers(ROWS, size=ROWS), minlength=ROWS) for _ in range(20)])
    if metric in ("pearson", "spearman"):
        labels = generator.integers(0, 11, ROWS) / 2
        return labels, np.round(labels + generator.normal(0, 2, (RUNS, ROWS)), 1), counts.astype(float)
    labels = generator.integers(0, classes, ROWS)
    kept = generator.random((RUNS, ROWS)) < 0.6
    return labels, np.where(kept, labels, generator.integers(0, classes, (RUNS, ROWS))), counts.astype(float)


def test_the_metrics_are_those_of_the_tasks() -> None:
    assert set(ORACLES) == set(METRICS)


@pytest.mark.parametrize(("metric", "classes"), [*((metric, 2) for metric in METRICS), ("matthews", 3)])
def test_every_run_on_every_resample(metric: str, classes: int) -> None:
    labels, predictions, counts = drawn(metric, classes)
    scores = resampled_scores(metric, labels, predictions, counts)
    assert scores.shape == (20, RUNS)
    for resample, row in zip(counts.astype(int), scores, strict=True):
        rows = np.repeat(np.arange(ROWS), resample)
        expected = [ORACLES[metric](labels[rows], run[rows]) for run in predictions]
        np.testing.assert_allclose(row, expected, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_undefined_is_what_it_is_in_training(metric: str) -> None:
    labels, predictions, _ = drawn(metric)
    constant = np.full_like(labels, 0.0)
    cases = [(labels, predictions[0]), (labels, constant), (constant, predictions[0]), (constant, constant)]
    cases += [(constant + 0.1, predictions[0])] if metric == "pearson" else []
    for known, found in cases:
        ours = resampled_scores(metric, known, found[None], np.ones((1, ROWS)))[0, 0]
        theirs = METRICS[metric](torch.from_numpy(found), torch.from_numpy(known), 2)
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_accuracy_varies_as_the_binomial_says_and_runs_together_as_they_agree() -> None:
    labels, predictions, _ = drawn("accuracy")
    covariance = example_covariance("accuracy", labels, predictions, 0)
    expected = np.cov(predictions == labels, bias=True) / ROWS
    np.testing.assert_allclose(covariance, expected, atol=0.1 * expected.max())
    np.testing.assert_array_equal(covariance, example_covariance("accuracy", labels, predictions, 0))
    assert not np.array_equal(covariance, example_covariance("accuracy", labels, predictions, 1))


def test_f1_varies_as_scipys_bootstrap_says() -> None:
    labels, predictions, _ = drawn("f1")
    found = stats.bootstrap(
        (labels, predictions[0]),
        lambda known, guessed: sklearn_metrics.f1_score(known, guessed),
        paired=True,
        vectorized=False,
        n_resamples=2000,
        rng=np.random.default_rng(1),
    )
    error = example_covariance("f1", labels, predictions[:1], 0)[0, 0] ** 0.5
    assert error == pytest.approx(found.standard_error, rel=0.06)


def test_many_rows_come_in_pieces_that_join(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, predictions, _ = drawn("accuracy")
    whole = example_covariance("accuracy", labels, predictions, 0)
    monkeypatch.setattr("lightning_lora.reporting.resampling._COUNTS_AT_ONCE", 300 * ROWS)
    np.testing.assert_allclose(example_covariance("accuracy", labels, predictions, 0), whole, atol=1e-15)


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(ValueError, match="no metric 'bleu'; there are accuracy, f1"):
        resampled_scores("bleu", np.zeros(2), np.zeros((1, 2)), np.ones((1, 2)))
