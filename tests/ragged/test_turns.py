"""Threads that run one model at the same time get what one thread gets, and leave the model as it was."""

import copy
import gc
import pickle
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from ragged_texts import adapted, texts
from torch import Tensor

from lightning_lora.ragged import hidden_before, ragged_logits, runs_ragged

THREADS, CALLS = 3, 20


@pytest.fixture(autouse=True)
def _threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def batches(count: int) -> list[dict[str, Tensor]]:
    found = [texts([3 + number % 4, 1, 5 + number % 3], pairs=False)[1] for number in range(count)]
    for batch in found:
        del batch["token_type_ids"]
    return found


@torch.no_grad()
def both_ways(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The logits, computed twice: as they are, and from what the second block is given."""
    assert runs_ragged(model)
    hidden = hidden_before(model, batch, 1)[None]
    return torch.stack([ragged_logits(model, batch), ragged_logits(model, batch | {"hidden": hidden, "begin_at": 1})])


def hooks_of(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("architecture", ["roberta", "llama"])
def test_many_threads_give_what_one_gives(architecture: str) -> None:
    torch.manual_seed(0)
    model = adapted(architecture)
    given = batches(THREADS * CALLS)
    expected = [both_ways(model, batch) for batch in given]
    before = (model.config._attn_implementation, hooks_of(model), [name for name, _ in model.named_modules()])
    together = Barrier(THREADS)

    def work(first: int) -> list[Tensor]:
        together.wait()
        return [both_ways(model, batch) for batch in given[first::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
    for first, logits in enumerate(found):
        assert all(map(torch.equal, logits, expected[first::THREADS]))
    assert before == (model.config._attn_implementation, hooks_of(model), [name for name, _ in model.named_modules()])


def test_a_model_that_has_run_is_copied_pickled_and_forgotten_as_before() -> None:
    model = adapted("bert")
    (batch,) = batches(1)
    expected = ragged_logits(model, batch)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(ragged_logits(other, batch), expected)
    gone = weakref.ref(model)
    del model, other, expected
    gc.collect()
    assert gone() is None
