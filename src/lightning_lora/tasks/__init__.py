"""What a task is: columns, labels, splits and metrics.

The tables need the standard library only, so that a command line can be checked without loading torch; the metrics
(`METRICS`, `score`) are imported when first asked for.
"""

from typing import TYPE_CHECKING, Any

from lightning_lora.tasks.table import TASKS, TOY_TASKS, UnknownTaskError, find_task
from lightning_lora.tasks.task import (
    HELD_OUT,
    METRIC_FACTS,
    MetricFact,
    Task,
    custom_task,
    imported_task,
    metrics_for,
    numbered_labels,
)

if TYPE_CHECKING:
    from lightning_lora.tasks.metrics import METRICS, MetricFunction, score

__all__ = [
    "HELD_OUT",
    "METRICS",
    "METRIC_FACTS",
    "TASKS",
    "TOY_TASKS",
    "MetricFact",
    "MetricFunction",
    "Task",
    "UnknownTaskError",
    "custom_task",
    "find_task",
    "imported_task",
    "metrics_for",
    "numbered_labels",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in ("METRICS", "MetricFunction", "score"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lightning_lora.tasks import metrics

    return getattr(metrics, name)
