"""Draws that change make other jobs: finished work of the code before is not taken for work of the code after."""

import hashlib
import json

import pytest
import torch
from torch import nn

from lightning_lora.data import sampling
from lightning_lora.data.sampling import batch_seed, epoch_order, random_subset
from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec, adapter_parameters
from lightning_lora.lora.dropout import draw_seed, kept_elements
from lightning_lora.ragged.execution import filled_to
from lightning_lora.sweeping import ARITHMETIC

KNOWN = {1: "a9eac15936d30b95"}


def digest_of_draws() -> str:
    """Of what is drawn from a seed, and of how rows are filled up. No floating-point sum has a part in it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    inject_adapter(model, LoraSpec(rank=2), modules=["0", "1"])
    factors = [(name, factor.detach()) for name, factor in adapter_parameters(model)]
    seeds = [draw_seed(), batch_seed(0, 1, 2), batch_seed(0, 1, 2, process=1)]
    draws = [*factors, *((str(p), kept_elements((5, 4096), p, seeds[1])) for p in (0.1, 0.5, 0.75))]
    draws += [("order", epoch_order(100, seed=0, epoch=1)), ("subset", random_subset(100, 10, seed=0))]
    lengths = [filled_to(tokens, dtype) for tokens in (17, 366, 1700) for dtype in (torch.float32, torch.bfloat16)]
    told = [(name, str(drawn.dtype), hashlib.sha256(drawn.numpy().tobytes()).hexdigest()) for name, drawn in draws]
    return hashlib.sha256(json.dumps([seeds, lengths, told]).encode()).hexdigest()[:16]


def test_the_draws_are_those_of_this_arithmetic() -> None:
    found = digest_of_draws()
    assert found == KNOWN[ARITHMETIC], f"the draws are others: raise sweeping.identity.ARITHMETIC, and add {found} here"


def test_a_change_of_the_draws_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_of_draws()
    monkeypatch.setattr(sampling, "_SHUFFLE", 7)
    assert digest_of_draws() != before
