"""The schedule against transformers' own, and the count of steps against a real Lightning run."""

import pytest
import torch
from transformers import get_scheduler

from lightning_lora.training.schedule import SCHEDULES, optimizer_steps, schedule_factor, warmup_steps

NAME_THERE = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@pytest.mark.parametrize(("total", "warmup"), [(50, 3), (50, 0), (7, 7), (1, 1)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_step_has_the_factor_that_transformers_gives(schedule: str, total: int, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = get_scheduler(NAME_THERE[schedule], optimizer, num_warmup_steps=warmup, num_training_steps=total)
    factor = schedule_factor(schedule, total, warmup)
    for step in range(total + 1):
        assert factor(step) == pytest.approx(peer.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        peer.step()


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of linear, cosine, constant"):
        schedule_factor("linaer", 10, 1)


@pytest.mark.parametrize(
    ("batches", "epochs", "accumulate", "max_steps", "steps"),
    [(10, 3, 1, -1, 30), (10, 3, 4, -1, 9), (10, 3, 4, 5, 5), (10, 3, 1, 100, 30), (1, 1, 8, -1, 1)],
)
def test_steps_counted_by_hand(batches: int, epochs: int, accumulate: int, max_steps: int, steps: int) -> None:
    assert optimizer_steps(batches, epochs, accumulate, max_steps) == steps


def test_warm_up_rounds_up() -> None:
    assert warmup_steps(100, 0.06) == 6
    assert warmup_steps(101, 0.06) == 7
    assert warmup_steps(10, 0.0) == 0
