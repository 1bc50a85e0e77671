"""Batches brought to few shapes give the logits and gradients they would give as they are.

Recording and replaying need a GPU: benchmarks/gpu.py compares a run with graphs and one without.
"""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ragged_texts import LENGTHS, PADDING_TOKENS, adapted, texts

from lightning_lora.lora import adapter_parameters
from lightning_lora.ragged import CudaGraphs, cuda_graphs, ragged_logits
from lightning_lora.ragged.cuda_graphs import Shape, filled
from lightning_lora.ragged.execution import FIRST_TOKEN, LAST_TOKEN

EXACT = {"atol": 1e-12, "rtol": 1e-9}
SOFTMAX_IN_FP32 = {"atol": 1e-6, "rtol": 1e-5}


@given(st.lists(st.integers(1, 512), min_size=1, max_size=64))
def test_every_text_and_every_filler_has_its_place(lengths: list[int]) -> None:
    shape = Shape.of(lengths)
    everything = filled(lengths, shape)
    assert everything[: len(lengths)] == lengths
    assert len(everything) == shape.texts + shape.fillers
    assert sum(everything) == shape.tokens
    assert all(1 <= length <= max(33, *lengths) for length in everything[len(lengths) :])
    assert max(everything) <= shape.longest < max(lengths) + 128
    assert shape.tokens - sum(lengths) < 32 + sum(lengths) / 4


def test_batches_of_a_task_have_few_shapes() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(20, 90, (32,), generator=generator).tolist() for _ in range(200)]
    assert len({sum(lengths) for lengths in batches}) > 100
    assert len({Shape.of(lengths) for lengths in batches}) <= 12


@pytest.mark.parametrize("padding_tokens", [(), PADDING_TOKENS], ids=["plain", "ending in padding"])
@pytest.mark.parametrize("architecture", sorted(FIRST_TOKEN | LAST_TOKEN))
def test_logits_and_gradients_are_those_of_the_batch_as_it_is(
    architecture: str, padding_tokens: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "FILLER_TEXT", 8)  # the tiny models have 24 positions
    model = adapted(architecture)
    graphs = CudaGraphs(model)
    _, ragged = texts(LENGTHS["mixed"], pairs=False, padding_tokens=padding_tokens)
    del ragged["token_type_ids"]
    expected = gradients_of(model, ragged_logits(model, ragged))
    tolerance = SOFTMAX_IN_FP32 if architecture == "gemma2" else EXACT
    torch.testing.assert_close(gradients_of(model, graphs.logits(ragged)), expected, **tolerance)


def gradients_of(model: Any, logits: torch.Tensor) -> list[torch.Tensor]:
    factors = [factor for _, factor in adapter_parameters(model)]
    return [logits.detach(), *torch.autograd.grad(logits.square().sum(), factors)]
