"""What a task is: the columns to read, the labels to predict, the splits and the metrics. Standard library only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning_lora.spelling import did_you_mean


@dataclass(frozen=True)
class MetricFact:
    """Which tasks a metric is for."""

    regression: bool
    binary_only: bool = False


HELD_OUT = "held_out"
"""A dev split that no source has: it is taken from the training split."""

METRIC_FACTS: dict[str, MetricFact] = {
    "accuracy": MetricFact(regression=False),
    "f1": MetricFact(regression=False, binary_only=True),
    "matthews": MetricFact(regression=False),
    "pearson": MetricFact(regression=True),
    "spearman": MetricFact(regression=True),
}


@dataclass(frozen=True)
class Task:
    """One text classification or regression task. Validates itself.

    Attributes:
        name: The name used on the command line, in folders and in records.
        text_columns: One column for single texts, two for pairs.
        labels: Class names in label order; empty for regression.
        metrics: Names from `METRIC_FACTS`.
        headline: The metric a run is judged by; one of ``metrics``.
        label_column: The column holding the label.
        train_split: Name of the training split.
        dev_splits: Names of the splits that are scored; the headline is read from the first.
        hub: (repository, configuration) on the hub, or None.
        label_range: Lowest and highest label, regression only; None leaves it open.
        empty_texts: How many empty texts the published data is known to hold in one split. More is an error.

    Raises:
        ValueError: for a field that contradicts another, with one line saying what is allowed.
    """

    name: str
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: str
    label_column: str = "label"
    train_split: str = "train"
    dev_splits: tuple[str, ...] = ("validation",)
    hub: tuple[str, str] | None = None
    label_range: tuple[float, float] | None = None
    empty_texts: int = 0

    def __post_init__(self) -> None:
        self._check_columns()
        self._check_labels()
        self._check_metrics()
        self._check_splits()

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def num_outputs(self) -> int:
        """Width of the head: 1 for regression, else one logit per label."""
        return len(self.labels) or 1

    def on_held_out(self) -> "Task":
        """The same task, scored on rows held out of its training split and on nothing else."""
        return replace(self, dev_splits=(HELD_OUT,))

    def _check_columns(self) -> None:
        if not self.name:
            raise ValueError("a task needs a name")
        if len(self.text_columns) not in (1, 2) or not all(self.text_columns):
            raise ValueError(
                f"task {self.name}: text_columns={list(self.text_columns)}; "
                "name one column for single texts, two for pairs"
            )
        _refuse_repeats(self.name, "text_columns", self.text_columns)
        if not self.label_column or self.label_column in self.text_columns:
            raise ValueError(
                f"task {self.name}: label_column={self.label_column!r} must be a column other than the text columns"
            )

    def _check_labels(self) -> None:
        if len(self.labels) == 1 or not all(self.labels):
            raise ValueError(
                f"task {self.name}: labels={list(self.labels)}; name at least two classes, or none for regression"
            )
        _refuse_repeats(self.name, "labels", self.labels)
        if self.label_range is None:
            return
        if not self.is_regression:
            raise ValueError(f"task {self.name}: label_range is for regression, and this task has named labels")
        low, high = self.label_range
        if not low < high:
            raise ValueError(f"task {self.name}: label_range=({low}, {high}) must go from low to high")

    def _check_metrics(self) -> None:
        allowed = metrics_for(len(self.labels))
        for metric in self.metrics:
            if metric not in METRIC_FACTS:
                raise ValueError(
                    f"task {self.name}: no metric {metric!r}{did_you_mean(metric, METRIC_FACTS)}; "
                    f"there are {', '.join(METRIC_FACTS)}"
                )
            if metric not in allowed:
                kind = f"{len(self.labels)} labels" if self.labels else "no labels (regression)"
                raise ValueError(
                    f"task {self.name}: metric {metric!r} does not fit a task with {kind}; use {' or '.join(allowed)}"
                )
        _refuse_repeats(self.name, "metrics", self.metrics)
        if self.headline not in self.metrics:
            raise ValueError(
                f"task {self.name}: headline={self.headline!r} is not one of its metrics {list(self.metrics)}"
                f"{did_you_mean(self.headline, self.metrics)}"
            )

    def _check_splits(self) -> None:
        if not self.train_split or not self.dev_splits or not all(self.dev_splits):
            raise ValueError(f"task {self.name}: name a train_split and at least one of dev_splits")
        _refuse_repeats(self.name, "splits", (self.train_split, *self.dev_splits))


def custom_task(
    *,
    text_columns: Sequence[str],
    labels: Sequence[Any] = (),
    metrics: Sequence[str] = (),
    headline: str | None = None,
    label_column: str = "label",
    train_split: str = "train",
    dev_splits: Sequence[str] = ("validation",),
    label_range: tuple[float, float] | None = None,
    name: str = "custom",
) -> Task:
    """A user's own task.

    Args:
        text_columns: One or two column names.
        labels: Class names in label order (numbers are taken as their text); empty for regression.
        metrics: Default accuracy, or pearson and spearman for regression.
        headline: Default the first metric.
        label_column: The column holding the label.
        train_split: Name of the training split.
        dev_splits: Names of the splits that are scored.
        label_range: Lowest and highest label, regression only.
        name: The name in records; it chooses the sub-folder looked for under a data path.

    Raises:
        ValueError: see `Task`; also a bare string where a list belongs.
    """
    if HELD_OUT in dev_splits:
        raise ValueError(
            f"{HELD_OUT!r} in dev_splits is the name of rows held out of the training split, not of a split"
        )
    lists = {"text_columns": text_columns, "labels": labels, "metrics": metrics, "dev_splits": dev_splits}
    for field, value in lists.items():
        if isinstance(value, str):
            raise ValueError(f"task {name}: {field}={value!r} must be a list, as in {field}=[{value}]")
    names = tuple(str(label) for label in labels)
    chosen = tuple(metrics) or (("accuracy",) if names else ("pearson", "spearman"))
    return Task(
        name=name,
        text_columns=tuple(text_columns),
        labels=names,
        metrics=chosen,
        headline=chosen[0] if headline is None else headline,
        label_column=label_column,
        train_split=train_split,
        dev_splits=tuple(dev_splits),
        label_range=label_range,
    )


def imported_task(labels: Sequence[str], name: str = "") -> Task:
    """The task of an adapter from elsewhere, of which the labels are all that is known, and perhaps the name.

    Raises:
        ValueError: see `Task`.
    """
    return custom_task(text_columns=("text",), labels=labels, name=name or "imported")


def numbered_labels(outputs: int) -> tuple[str, ...]:
    """Names for so many outputs, as transformers gives them; none for the one output of a regression."""
    return () if outputs == 1 else tuple(f"LABEL_{number}" for number in range(outputs))


def metrics_for(labels: int) -> tuple[str, ...]:
    """Names of the metrics that fit a task with so many labels (0 = regression)."""
    return tuple(
        name
        for name, fact in METRIC_FACTS.items()
        if fact.regression == (labels == 0) and (labels == 2 or not fact.binary_only)
    )


def _refuse_repeats(task: str, field: str, values: Sequence[str]) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"task {task}: {field} names {value!r} twice")
