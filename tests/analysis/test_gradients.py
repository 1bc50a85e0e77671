"""Closed gradients against fp64 autograd through our layer, steps against torch's optimisers, means against draws."""

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_lora.analysis import (
    adam_first_step,
    expected_adam_step,
    expected_cosine,
    expected_gradient_norm,
    expected_sgd_step,
    factor_gradients,
    initial_moments,
    sgd_step,
    weight_gradient,
)
from lightning_lora.lora import INITIALISATIONS, SCALINGS, LoRALinear, LoraSpec, Routing

IN, OUT, ROWS = 13, 7, 29
SPECS = [LoraSpec(3, 5.0, scaling=rule, dtype=torch.float64) for rule in SCALINGS]


def layer_with(spec: LoraSpec, *, trained: bool) -> LoRALinear:
    """An fp64 layer (OUT, IN) with one adapter; a random B where ``trained``."""
    base = nn.Linear(IN, OUT, dtype=torch.float64)
    layer = LoRALinear.adopt(base.requires_grad_(False), Routing("default"))
    delta = layer.add_adapter("default", spec)
    if trained:
        nn.init.normal_(delta.B)
    return layer


def loss_of(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (layer(x) - y).square().sum().div(2)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.scaling)
@pytest.mark.parametrize("trained", [False, True])
def test_the_closed_gradients_are_autograds(spec: LoraSpec, trained: bool) -> None:
    layer = layer_with(spec, trained=trained)
    x, y = torch.randn(4, ROWS, IN).double(), torch.randn(4, ROWS, OUT).double()
    layer.weight.requires_grad_(True)
    loss_of(layer, x, y).backward()
    delta = layer.adapters["default"]
    G = weight_gradient((layer(x) - y).detach(), x)
    closed = factor_gradients(G, delta.A.detach(), delta.B.detach(), spec.scale)
    assert layer.weight.grad is not None
    torch.testing.assert_close(G, layer.weight.grad)
    torch.testing.assert_close(closed.A, delta.A.grad)
    torch.testing.assert_close(closed.B, delta.B.grad)
    assert bool(delta.A.grad.any()) == trained, "with B = 0 the gradient of A is exactly 0"
    without_scale = factor_gradients(G, delta.A.detach(), delta.B.detach(), 1.0)
    assert not torch.allclose(without_scale.B, delta.B.grad)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.scaling)
@pytest.mark.parametrize("trained", [False, True])
def test_the_step_in_delta_is_that_of_torchs_sgd(spec: LoraSpec, trained: bool) -> None:
    layer, x, y = layer_with(spec, trained=trained), torch.randn(ROWS, IN).double(), torch.randn(ROWS, OUT).double()
    delta = layer.adapters["default"]
    before, A, B = delta.weight(), delta.A.detach().clone(), delta.B.detach().clone()
    loss_of(layer, x, y).backward()
    G = weight_gradient((layer(x) - y).detach(), x)
    torch.optim.SGD(layer.adapters.parameters(), lr=0.01).step()
    torch.testing.assert_close(delta.weight() - before, sgd_step(G, A, B, spec.scale, 0.01))


def test_the_first_step_in_delta_is_that_of_torchs_adam() -> None:
    layer, x, y = layer_with(SPECS[0], trained=False), torch.randn(ROWS, IN).double(), torch.randn(ROWS, OUT).double()
    delta = layer.adapters["default"]
    A = delta.A.detach().clone()
    loss_of(layer, x, y).backward()
    G = weight_gradient((layer(x) - y).detach(), x)
    gradient = factor_gradients(G, A, delta.B.detach(), SPECS[0].scale).B
    torch.optim.Adam(layer.adapters.parameters(), lr=0.01, eps=1e-12).step()
    # An entry with the gradient g moves by lr · g / (|g| + eps), short of lr by at most lr · eps / |g|.
    short = 0.01 * 1e-12 / float(gradient.abs().min())
    atol = SPECS[0].scale * short * float(A.abs().sum(dim=0).max())
    torch.testing.assert_close(delta.weight(), adam_first_step(G, A, SPECS[0].scale, 0.01), rtol=1e-12, atol=atol)


@pytest.mark.parametrize("lr", [1e-6, 1e-5, 1e-4])
def test_after_one_step_the_gradient_of_a_is_in_proportion_to_the_learning_rate(lr: float) -> None:
    """So its variance is O(lr²); the document says O(1)."""
    layer, x, y = layer_with(SPECS[0], trained=False), torch.randn(ROWS, IN).double(), torch.randn(ROWS, OUT).double()
    delta, scale = layer.adapters["default"], SPECS[0].scale
    A = delta.A.detach().clone()
    loss_of(layer, x, y).backward()
    G = weight_gradient((layer(x) - y).detach(), x)
    torch.optim.SGD(layer.adapters.parameters(), lr=lr).step()
    layer.zero_grad()
    loss_of(layer, x, y).backward()
    first_order = -lr * scale**2 * A @ G.T @ G
    # The weight has moved by lr s² G AᵀA, and so G by that times xᵀx; norms of products are at most products of norms.
    moved = lr * scale**2 * float(G.norm() * A.norm() ** 2 * (x.T @ x).norm())
    assert float((delta.A.grad - first_order).norm()) <= lr * scale**2 * float((A @ G.T).norm()) * moved
    assert float(delta.A.grad.norm()) < 2 * float(first_order.norm()), "the control: the bound says something"


def drawn(initialisation: str, rank: int, width: int, count: int) -> list[Tensor]:
    factors = []
    for _ in range(count):
        A, B = torch.empty(rank, width, dtype=torch.float64), torch.empty(1, rank)
        INITIALISATIONS[initialisation](A, B)
        factors.append(A)
    return factors


def assert_mean(values: Tensor, expected: float) -> None:
    """Within four standard errors, those of the draws themselves."""
    assert abs(float(values.mean()) - expected) < 4 * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("initialisation", sorted(INITIALISATIONS))
@pytest.mark.parametrize("rank", [1, 4, 24])
def test_expected_norms_are_the_means_over_draws(initialisation: str, rank: int) -> None:
    width, out, scale = 48, 20, 0.7
    G = torch.randn(out, width, dtype=torch.float64)
    A = initial_moments(initialisation, rank, width)
    factors = drawn(initialisation, rank, width, 400)
    B = torch.zeros(out, rank, dtype=torch.float64)
    square = float(G.square().sum())
    gradients = torch.stack([factor_gradients(G, one, B, scale).B.square().sum() for one in factors])
    assert_mean(gradients / square, expected_gradient_norm(rank, A, scale) ** 2)
    steps = torch.stack([sgd_step(G, one, B, scale, 1.0) for one in factors])
    assert_mean(steps.square().sum((1, 2)) / square, expected_sgd_step(rank, width, A, scale) ** 2)
    along = -(steps * G).sum((1, 2)) / square
    quotient = float(along.mean() / (steps.square().sum((1, 2)) / square).mean().sqrt())
    # The quotient's relative error is below those of its parts, each at most 4 / sqrt(400) of a relative spread < 1.
    assert quotient == pytest.approx(expected_cosine(rank, width, A.kurtosis), rel=0.2)
    if initialisation == "gaussian":
        adam = torch.stack([adam_first_step(G, one, scale, 1.0) for one in factors])
        assert_mean(adam.square().sum((1, 2)), expected_adam_step(rank, width, out, A, scale) ** 2)


def test_alpha_equal_to_rank_makes_one_thing_invariant_and_no_other() -> None:
    """Scale 1 at 768 inputs and outputs, from rank 1 to 256: the document says nothing depends on the rank."""
    first, last = ({name: initial_moments(name, rank, 768) for name in INITIALISATIONS} for rank in (1, 256))
    growth = {
        name: expected_gradient_norm(256, last[name], 1.0) / expected_gradient_norm(1, first[name], 1.0)
        for name in INITIALISATIONS
    }
    assert growth["gaussian"] == pytest.approx(1)
    assert growth["kaiming"] == pytest.approx(16)
    sgd = expected_sgd_step(256, 768, last["gaussian"], 1.0) / expected_sgd_step(1, 768, first["gaussian"], 1.0)
    assert sgd < 0.1, "the step in ΔW falls even where the gradient's norm does not"
    adam = {
        name: expected_adam_step(256, 768, 768, last[name], 1.0) / expected_adam_step(1, 768, 768, first[name], 1.0)
        for name in INITIALISATIONS
    }
    assert adam["kaiming"] > 16
    assert 1 < adam["gaussian"] == pytest.approx(math.sqrt(1 + 2 / math.pi * 255 / 768))
