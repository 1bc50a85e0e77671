"""Headline metrics of many runs over many resamples of their examples at once, in NumPy.

The conventions are those of `lightning_lora.tasks.metrics`: whatever is undefined is 0.0. A resample is how often each
example was drawn, so that no row is copied.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lightning_lora.tasks import METRIC_FACTS

RESAMPLES = 2000
"""The variance of a bootstrap of so many resamples is within 6 % of its limit (two standard errors)."""
_COUNTS_AT_ONCE = 4_000_000
_CONSTANT = 1e-12  # relative; what is left of the variance of equal numbers after rounding is a ten-thousandth of it

Floats = NDArray[np.float64]


def example_covariance(metric: str, labels: NDArray[np.generic], predictions: NDArray[np.generic], seed: int) -> Floats:
    """Covariance of the runs' scores when examples are drawn anew: the bootstrap of Efron (1979), all runs alike.

    Args:
        metric: Name of the metric, as in `resampled_scores`.
        labels: (rows,).
        predictions: (runs, rows).
        seed: Of the drawing; the same seed gives the same bits.

    Returns:
        (runs, runs).
    """
    scores = [resampled_scores(metric, labels, predictions, counts) for counts in _drawn(len(labels), seed)]
    return np.atleast_2d(np.cov(np.concatenate(scores), rowvar=False))


def _drawn(rows: int, seed: int) -> Iterator[Floats]:
    """`RESAMPLES` resamples of so many rows, in pieces that fit into memory: how often each row was drawn."""
    generator = np.random.default_rng(seed)
    most = max(1, _COUNTS_AT_ONCE // rows)
    for start in range(0, RESAMPLES, most):
        here = min(most, RESAMPLES - start)
        drawn = generator.integers(rows, size=(here, rows)) + rows * np.arange(here)[:, None]
        yield np.bincount(drawn.ravel(), minlength=here * rows).reshape(here, rows).astype(np.float64)


def resampled_scores(
    metric: str, labels: NDArray[np.generic], predictions: NDArray[np.generic], counts: Floats
) -> Floats:
    """The metric of every run on every resample.

    Args:
        metric: A name in `METRIC_FACTS`.
        labels: (rows,) class numbers, or numbers for a regression.
        predictions: (runs, rows) of the same kind.
        counts: (resamples, rows), how often a resample holds a row; one row of ones is the whole split.

    Returns:
        (resamples, runs) fractions, never nan.
    """
    if metric == "accuracy":
        return _ratio(counts @ (predictions == labels).T, counts.sum(axis=1, keepdims=True))
    if metric == "f1":
        return _f1(labels == 1, predictions == 1, counts)
    if metric == "matthews":
        return _matthews(labels, predictions, counts)
    truth, guesses = labels.astype(np.float64), predictions.astype(np.float64)
    if metric == "pearson":
        return np.stack([_pearson(truth, run, counts) for run in guesses], axis=1)
    if metric == "spearman":
        ranked = _mean_ranks(truth, counts)
        return np.stack([_pearson(ranked, _mean_ranks(run, counts), counts) for run in guesses], axis=1)
    raise ValueError(f"no metric {metric!r}; there are {', '.join(METRIC_FACTS)}")


def _f1(labels: NDArray[np.bool_], predictions: NDArray[np.bool_], counts: Floats) -> Floats:
    both = counts @ (predictions & labels).T
    positives = counts @ predictions.T + (counts @ labels)[:, None]
    return _ratio(2 * both, positives)


def _matthews(labels: NDArray[np.generic], predictions: NDArray[np.generic], counts: Floats) -> Floats:
    """Gorodkin (2004), equation 8: the correlation of the indicators of the classes, for any number of them."""
    total = counts.sum(axis=1, keepdims=True)
    products = total * (counts @ (predictions == labels).T)
    of_labels, of_predictions = total**2, np.tile(total**2, len(predictions))
    for label in np.union1d(labels, predictions):
        known, guessed = (counts @ (labels == label))[:, None], counts @ (predictions == label).T
        products = products - known * guessed
        of_labels = of_labels - known**2
        of_predictions = of_predictions - guessed**2
    return _ratio(products, np.sqrt(of_labels * of_predictions))


def _pearson(one: Floats, other: Floats, counts: Floats) -> Floats:
    """(resamples,); either side is (rows,), or (resamples, rows) where it depends on the resample."""
    total = counts.sum(axis=1)
    one, other = one - one.mean(), other - other.mean()  # small numbers lose less in the differences of squares

    def mean(values: Floats) -> Floats:
        return _ratio(np.einsum("br,br->b", counts, np.broadcast_to(values, counts.shape)), total)

    products = mean(one * other) - mean(one) * mean(other)
    spread = np.ones(len(counts))
    for values in (one, other):
        square = mean(values**2)
        variance = square - mean(values) ** 2
        spread = spread * np.where(variance > _CONSTANT * square, variance, 0.0)
    return _ratio(products, np.sqrt(spread))


def _mean_ranks(values: Floats, counts: Floats) -> Floats:
    """(resamples, rows): the mean rank that a row's value has in the resample, ties sharing theirs."""
    _, which = np.unique(values, return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which))
    upto = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], axis=1)[:, ends - 1]], axis=1)
    ranks: Floats = ((upto[:, :-1] + upto[:, 1:] + 1) / 2)[:, which]
    return ranks


def _ratio(above: Floats, below: Floats) -> Floats:
    """0.0 where there is nothing to divide by."""
    quotient: Floats = np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)
    return quotient
