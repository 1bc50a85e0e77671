"""Closed moments against SciPy's distributions and against draws, within the bounds of the draws' own spread."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy import stats
from torch import nn

from lightning_lora.analysis import Moments, initial_moments, output_variance, product_moments
from lightning_lora.analysis.moments import NORMAL, UNIFORM
from lightning_lora.lora import INITIALISATIONS

DRAWS = 200_000


def test_the_kurtoses_are_scipys() -> None:
    assert stats.norm.stats(moments="k") + 3 == NORMAL
    assert float(stats.uniform.stats(moments="k")) + 3 == pytest.approx(UNIFORM, rel=1e-12)


@pytest.mark.parametrize("initialisation", sorted(INITIALISATIONS))
@pytest.mark.parametrize("rank", [1, 4, 64])
def test_drawn_factors_have_the_initial_variance(initialisation: str, rank: int) -> None:
    A, B = torch.empty(rank, 4096), torch.empty(8, rank)
    INITIALISATIONS[initialisation](A, B)
    low, high = initial_moments(initialisation, rank, 4096).mean_square_bounds(A.numel())
    assert low < float(A.double().square().mean()) < high


@pytest.mark.parametrize("rank", [2, 4, 16])
def test_pefts_gaussian_has_another_variance_than_the_documents(rank: int) -> None:
    """The real PEFT: a standard deviation of 1/r, where the document and we have 1/sqrt(r)."""
    model = nn.Sequential(nn.Linear(4096, 8))
    peer = get_peft_model(model, LoraConfig(r=rank, target_modules=["0"], init_lora_weights="gaussian"))
    (A,) = [p for name, p in peer.named_parameters() if "lora_A" in name]
    mean_square = float(A.detach().double().square().mean())
    low, high = initial_moments("peft_gaussian", rank, 4096).mean_square_bounds(A.numel())
    assert low < mean_square < high
    low, high = initial_moments("gaussian", rank, 4096).mean_square_bounds(A.numel())
    assert not low < mean_square < high


@pytest.mark.parametrize("kurtosis", [NORMAL, UNIFORM])
def test_the_bounds_hold_as_often_as_they_say(kurtosis: float) -> None:
    """2,000 means of 1,000 squares: outside 90 % bounds as often as the binomial distribution allows."""
    draws = torch.randn(2000, 1000) if kurtosis == NORMAL else (torch.rand(2000, 1000) * 2 - 1) * math.sqrt(3)
    means = draws.double().square().mean(dim=1)
    low, high = Moments(1.0, kurtosis).mean_square_bounds(1000, confidence=0.9)
    outside = int(((means < low) | (means > high)).sum())
    assert stats.binomtest(outside, 2000, 0.1).pvalue > 1e-3


@pytest.mark.parametrize("rank", [1, 4, 16])
@pytest.mark.parametrize("uniform_A", [False, True])
def test_the_product_has_no_input_in_its_variance(rank: int, uniform_A: bool) -> None:
    A, B = Moments(0.25, UNIFORM if uniform_A else NORMAL), Moments(4.0)
    half_width = math.sqrt(3 * A.variance)
    a = (torch.rand(DRAWS, rank) * 2 - 1) * half_width if uniform_A else torch.randn(DRAWS, rank) * A.std
    b = torch.randn(DRAWS, rank) * B.std
    mean_square = float((a * b).sum(dim=1).double().square().mean())
    product = product_moments(rank, A, B)
    assert product.variance == rank
    low, high = product.mean_square_bounds(DRAWS)
    assert low < mean_square < high
    with_input = Moments(product.variance * 0.5, product.kurtosis).mean_square_bounds(DRAWS)
    assert not with_input[0] < mean_square < with_input[1], "the document's factor E[x²], for inputs of mean square 0.5"


def test_the_output_has_it_and_the_width_besides() -> None:
    """One entry of B A x over fresh A, B and x: rank 3, 5 inputs of mean square 2."""
    a, b = torch.randn(DRAWS, 3, 5), torch.randn(DRAWS, 3)
    x = torch.randn(DRAWS, 5) * math.sqrt(2)
    squares = torch.einsum("nr,nrk,nk->n", b, a, x).double().square()
    expected = output_variance(3, 5, Moments(1.0), Moments(1.0), 2.0)
    assert expected == 30
    standard_error = float(squares.std()) / math.sqrt(DRAWS)
    assert abs(float(squares.mean()) - expected) < 4 * standard_error
