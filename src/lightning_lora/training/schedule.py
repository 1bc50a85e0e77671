"""The learning rate over a run, as a factor on the peak: warm-up, then linear or cosine decay to zero, or constant.

The formulas are those of ``transformers.get_scheduler``, and the tests compare the two. With W warm-up steps of T in
all, step s (from 0) has the factor

    s / W                                  s < W
    (T - s) / (T - W)                      linear
    (1 + cos(π (s - W) / (T - W))) / 2     cosine
    1                                      constant
"""

import math
from collections.abc import Callable

from lightning_lora.spelling import check_known

SCHEDULES = ("linear", "cosine", "constant")


def optimizer_steps(batches_per_epoch: int, epochs: int, accumulate: int = 1, max_steps: int = -1) -> int:
    """The true number of optimizer steps of a run.

    Args:
        batches_per_epoch: Batches one process sees in an epoch.
        epochs: Passes over the training rows.
        accumulate: Batches per step; the last step of an epoch may have fewer.
        max_steps: Upper limit, -1 for none.
    """
    steps = -(-batches_per_epoch // accumulate) * epochs
    return steps if max_steps < 0 else min(steps, max_steps)


def warmup_steps(total_steps: int, ratio: float) -> int:
    """``ceil(ratio · total_steps)``."""
    return math.ceil(ratio * total_steps)


def schedule_factor(schedule: str, total_steps: int, warmup: int) -> Callable[[int], float]:
    """The factor on the peak learning rate as a function of the step, from 0 on.

    Raises:
        ValueError: the schedule is unknown.
    """
    check_known("schedule", schedule, SCHEDULES)

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        if schedule == "constant":
            return 1.0
        decaying = max(1, total_steps - warmup)
        if schedule == "linear":
            return max(0, total_steps - step) / decaying
        return (1.0 + math.cos(math.pi * min(1.0, (step - warmup) / decaying))) / 2

    return factor
