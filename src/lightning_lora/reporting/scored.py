"""What a finished run said about its dev examples, checked against what its record says of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_lora.reporting.comparison import Curve
from lightning_lora.reporting.log import log_rows
from lightning_lora.reporting.predictions import prediction_files, read_predictions
from lightning_lora.reporting.record import RunRecord
from lightning_lora.reporting.resampling import resampled_scores
from lightning_lora.tasks import METRIC_FACTS, metrics_for

_ROUNDING = 1e-5  # scores are computed in float32


@dataclass(frozen=True)
class Scored:
    """Predictions on the first dev split.

    Attributes:
        idx: (rows,) of the examples in their split.
        labels: (rows,) class numbers, or numbers for a regression.
        predictions: (rows,) of the same kind.
    """

    idx: NDArray[np.int64]
    labels: NDArray[Any]
    predictions: NDArray[Any]

    @property
    def rows(self) -> bytes:
        """Numbers and labels of the examples."""
        return self.idx.tobytes() + self.labels.tobytes()


def dev_split_of(record: RunRecord) -> tuple[str, int]:
    """Name and rows of the split that the score is of."""
    _, first, *_ = record.data["rows"].items()
    return str(first[0]), int(first[1])


def examples_of(record: RunRecord) -> str | None:
    """Fingerprint of all examples of the split that the score is of; None where the record is older than these are."""
    name, _ = dev_split_of(record)
    said: dict[str, str] = record.data.get("examples", {})
    return said.get(name)


def read_scored(folder: Path, record: RunRecord) -> Scored:
    """Read the predictions that a run's score was computed from.

    Raises:
        ValueError: they are missing, damaged, or not those that the score was computed from.
    """
    splits, (scored_on, _) = list(record.data["rows"])[1:], dev_split_of(record)
    table = read_predictions(folder / prediction_files(splits)[scored_on])
    if record.metric not in METRIC_FACTS:
        raise ValueError(f"no metric {record.metric!r}; there are {', '.join(METRIC_FACTS)}")
    if not len(table.idx) or table.logits.ndim != 2 or not np.isfinite(table.logits).all():
        raise ValueError("the predictions have no rows, or rows without a finite logit for each output")
    regression = record.metric in metrics_for(labels=0)
    predictions = table.logits[:, 0].astype(np.float64) if regression else table.logits.argmax(axis=1)
    whole = np.ones((1, len(table.idx)))
    score = float(resampled_scores(record.metric, table.labels, predictions[None], whole)[0, 0])
    if record.score is None or abs(score - record.score) > _ROUNDING:
        raise ValueError(f"the predictions give {record.metric} {score:.4f}, the record {record.score}")
    return Scored(table.idx, table.labels, predictions)


def on_the_same_examples(scored: Mapping[Path, Scored]) -> set[Path]:
    """The runs whose examples have the row numbers and labels that most have, the first of equally common ones."""
    usual = {rows for rows, _ in Counter(run.rows for run in scored.values()).most_common(1)}
    return {folder for folder, run in scored.items() if run.rows in usual}


def read_curve(folder: Path, seed: int) -> Curve | None:
    """The headline metric by epoch out of ``metrics.jsonl``; None without a log that has one.

    A row that cannot be read is left out. Where an epoch was scored twice, because the run was resumed, the later
    score stands.
    """
    scores: dict[float, float] = {}
    for row in log_rows(folder, "dev/score"):
        try:
            scores[float(row["epoch"]) + 1] = float(row["dev/score"])
        except (ValueError, KeyError, TypeError):
            continue
    epochs = sorted(scores)
    return Curve(seed, tuple(epochs), tuple(scores[epoch] for epoch in epochs)) if scores else None
