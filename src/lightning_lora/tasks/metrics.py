"""Metrics over a whole split, exact to fp64, with a defined value where a coefficient is undefined.

torchmetrics counts and correlates. Its own metrics of classes are in float32; here they are ratios of its counts.

Undefined are Matthews with all predictions or all labels in one class, Pearson and Spearman with constant predictions
or constant labels (one row is constant), and F1 without a positive prediction or label. All of these are 0.0 here:
nothing was shown to be related. scikit-learn gives 0.0 for Matthews and F1 as well.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.functional.regression import pearson_corrcoef

from lightning_lora.tasks.task import Task

# (predictions, labels, number of classes) over the whole split -> a fraction, never nan.
MetricFunction = Callable[[Tensor, Tensor, int], float]


def accuracy(predictions: Int[Tensor, " rows"], labels: Int[Tensor, " rows"], classes: int) -> float:
    """Share of right predictions."""
    counts = _counts(predictions, labels, classes)
    return int(counts.trace()) / int(counts.sum())


def f1(predictions: Int[Tensor, " rows"], labels: Int[Tensor, " rows"], classes: int) -> float:
    """F1 of class 1 of two, as GLUE scores MRPC and QQP; 0.0 when class 1 is neither predicted nor there."""
    assert classes == 2
    counts = _counts(predictions, labels, classes)
    predicted_and_there = int(counts[:, 1].sum() + counts[1].sum())
    return 2 * int(counts[1, 1]) / predicted_and_there if predicted_and_there else 0.0


def matthews(predictions: Int[Tensor, " rows"], labels: Int[Tensor, " rows"], classes: int) -> float:
    """Matthews correlation in [-1, 1]; 0.0 when predictions or labels are all of one class.

    ``(c n − Σ p_k t_k) / sqrt((n² − Σ p_k²) (n² − Σ t_k²))`` with c right ones of n rows, p_k predicted and t_k rows of
    class k (Gorodkin 2004, doi 10.1016/j.compbiolchem.2004.09.006), in whole numbers but for the root.
    """
    counts = _counts(predictions, labels, classes)
    rows, predicted, there = int(counts.sum()), counts.sum(0), counts.sum(1)
    covariance = rows * int(counts.trace()) - int(predicted @ there)
    variances = (rows**2 - int(predicted @ predicted)) * (rows**2 - int(there @ there))
    return covariance / math.sqrt(variances) if variances else 0.0


def pearson(predictions: Float[Tensor, " rows"], labels: Float[Tensor, " rows"], classes: int = 1) -> float:
    """Pearson correlation in [-1, 1]; 0.0 when predictions or labels are constant."""
    if _constant(predictions) or _constant(labels):
        return 0.0
    return float(pearson_corrcoef(_standardised(predictions), _standardised(labels)))


def spearman(predictions: Float[Tensor, " rows"], labels: Float[Tensor, " rows"], classes: int = 1) -> float:
    """Spearman rank correlation in [-1, 1], ties by mean rank; 0.0 when predictions or labels are constant.

    torchmetrics' own ranks in float32 (1e-7 off SciPy at 500 rows); here they are float64, its Pearson does the rest.
    """
    return pearson(_mean_ranks(predictions), _mean_ranks(labels))


METRICS: dict[str, MetricFunction] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def score(task: Task, logits: Float[Tensor, "rows outputs"], labels: Num[Tensor, " rows"]) -> dict[str, float]:
    """Every metric of the task over a whole split.

    Args:
        task: Names the metrics; ``outputs`` is ``task.num_outputs``.
        logits: One row per example, any floating dtype. The largest is the predicted class (the first of equals); for
            regression the one column is the prediction.
        labels: int64 class numbers, or floats for regression.

    Returns:
        A fraction (not percent) per metric, in the order of ``task.metrics``; never nan.

    Raises:
        ValueError: no rows, another number of outputs than the task has, or logits that are not finite: a broken model
            must not pass for a bad one.
    """
    if len(labels) == 0:
        raise ValueError(f"task {task.name}: no rows to score")
    if logits.shape[1] != task.num_outputs:
        raise ValueError(f"task {task.name} has {task.num_outputs} outputs, the logits {logits.shape[1]}")
    finite = torch.isfinite(logits).all(dim=1)
    if not finite.all():
        first = int((~finite).int().argmax())
        raise ValueError(
            f"task {task.name}: the logits of {int((~finite).sum())} of {len(labels)} rows are not finite, "
            f"the first at position {first}; the model has diverged or overflowed (try a lower lr or precision=32-true)"
        )
    if task.is_regression:
        predictions, targets = logits[:, 0].double(), labels.double()
    else:
        predictions, targets = logits.argmax(dim=1), labels.long()
    return {name: METRICS[name](predictions, targets, task.num_outputs) for name in task.metrics}


def _counts(predictions: Tensor, labels: Tensor, classes: int) -> Int[Tensor, "classes classes"]:
    """Rows with a label (row) and a prediction (column)."""
    counts: Tensor = multiclass_confusion_matrix(predictions, labels, num_classes=classes)
    return counts


def _constant(values: Num[Tensor, " rows"]) -> bool:
    return bool((values == values[0]).all())


def _mean_ranks(values: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    values = values.contiguous()
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values)
    below_or_equal = torch.searchsorted(ordered, values, right=True)
    return (below + below_or_equal + 1).double() / 2


def _standardised(values: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Centred and scaled to [-1, 1]: the correlation is unchanged, and torchmetrics' guard against a small variance
    (which depends on the scale) stays out of the way."""
    centred = values.double() - values.double().mean()
    return centred / centred.abs().max()
