"""Initialisation schemes against the distributions their docstrings state."""

import math

import loralib
import peft
import pytest
import torch
from scipy import stats
from torch import nn

from lightning_lora.lora import INITIALISATIONS, LoRAEmbedding, LoRALinear, LoraSpec, OutputLayout, Routing

RANK, WIDTH = 16, 4096


@pytest.fixture
def drawn() -> dict[str, torch.Tensor]:
    result = {}
    for name, initialise in INITIALISATIONS.items():
        A, B = torch.empty(RANK, WIDTH), torch.ones(8, RANK)
        initialise(A, B)
        assert not B.any(), f"{name} must leave B at zero"
        result[name] = A
    return result


def test_gaussian_is_normal_with_variance_one_over_rank(drawn: dict[str, torch.Tensor]) -> None:
    values = drawn["gaussian"].flatten().numpy()
    assert stats.kstest(values, stats.norm(scale=1 / math.sqrt(RANK)).cdf).pvalue > 0.01
    assert stats.kstest(values, stats.norm(scale=1 / RANK).cdf).pvalue < 1e-6


def test_kaiming_is_uniform_with_bound_one_over_sqrt_of_width(drawn: dict[str, torch.Tensor]) -> None:
    values = drawn["kaiming"].flatten().numpy()
    bound = 1 / math.sqrt(WIDTH)
    assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01
    assert stats.kstest(values, stats.uniform(-2 * bound, 4 * bound).cdf).pvalue < 1e-6


def test_kaiming_draws_what_loralib_draws() -> None:
    peer = loralib.Linear(32, 12, r=4)
    layer = LoRALinear.adopt(nn.Linear(32, 12), Routing("default"))
    torch.manual_seed(1)
    peer.reset_parameters()
    torch.manual_seed(1)
    layer.reset_parameters()  # the draws that loralib's base layer takes in its reset
    delta = layer.add_adapter("default", LoraSpec(rank=4))
    assert torch.equal(delta.A, peer.lora_A)


def test_on_embeddings_kaiming_draws_what_loralib_and_peft_draw() -> None:
    """A is zero there and B normal; on both peers A is (rank, rows), B (width, rank)."""
    table = nn.Embedding(500, 12)
    delta = LoRAEmbedding.adopt(table, Routing("default")).add_adapter("default", LoraSpec(rank=4))
    other = loralib.Embedding(500, 12, r=4)
    wrapped = peft.get_peft_model(nn.Sequential(table), peft.LoraConfig(r=4, target_modules=["0"]))
    peer = wrapped.base_model.model[0]
    torch.manual_seed(1)
    peer.reset_lora_parameters("default", True)
    torch.manual_seed(1)
    delta.reset_parameters()
    assert torch.equal(delta.A, peer.lora_embedding_A["default"])
    assert torch.equal(delta.B, peer.lora_embedding_B["default"])
    torch.manual_seed(1)
    other.reset_parameters()
    torch.manual_seed(1)
    table.reset_parameters()  # the draws that loralib takes for its table
    delta.reset_parameters()
    assert torch.equal(delta.A, other.lora_A)
    assert torch.equal(delta.B, other.lora_B)
    assert not delta.A.any()
    assert delta.B.std() > 0.8, "the control: the bound of a linear layer's A would be 1 / sqrt(500)"


def test_on_embeddings_gaussian_is_what_it_is_elsewhere() -> None:
    delta = LoRAEmbedding.adopt(nn.Embedding(WIDTH, 12), Routing("default")).add_adapter(
        "default", LoraSpec(rank=4, initialisation="gaussian")
    )
    assert not delta.B.any()
    assert float(delta.A.detach().std()) == pytest.approx(1 / 2, rel=0.05)


def test_each_part_of_a_fused_layer_is_drawn_with_its_own_rank() -> None:
    layer = LoRALinear.adopt(nn.Linear(WIDTH, 6), Routing("default"))
    delta = layer.add_adapter("default", LoraSpec(rank=2, initialisation="gaussian"), OutputLayout((0, 2), parts=3))
    # Stacked A has 4 rows; a scheme that saw all of them would give standard deviation 1/2.
    assert float(delta.A.detach().std()) == pytest.approx(1 / math.sqrt(2), rel=0.05)
