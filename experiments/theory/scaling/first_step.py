"""One layer, one step: the gradients of A and B, and what the step of an optimizer does to ΔW."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lora.analysis import balanced_factors, factor_gradients, weight_gradient
from lightning_lora.lora import LoRALinear, LoraSpec, Routing

WIDTH, ROWS, LR = 512, 64, 1e-4


def problem(seed: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """A frozen layer, inputs, and targets from another layer: least squares in fp64."""
    torch.manual_seed(seed)
    base = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64)
    other = nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64)
    x = torch.randn(ROWS, WIDTH, dtype=torch.float64)
    return base, x, other(x).detach()


def first_steps(seed: int, spec: LoraSpec) -> dict[str, float]:
    """Gradients of both factors and the first real step in ΔW, under SGD and Adam; norms are Frobenius norms."""
    base, x, y = problem(seed)
    layer = LoRALinear.adopt(base, Routing("default"))
    delta = layer.add_adapter("default", spec)
    start = {name: value.detach().clone() for name, value in delta.named_parameters()}
    found: dict[str, float] = {}
    for name, optimizer_class in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)):
        delta.load_state_dict(start)
        optimizer = optimizer_class(delta.parameters(), lr=LR)
        G = backward(layer, x, y)
        if name == "sgd":
            found |= of_the_start(G, delta, spec)
        optimizer.step()
        step = delta.weight()
        found[f"{name}_step"] = float(step.norm()) / LR / (float(G.norm()) if name == "sgd" else 1.0)
        if name == "sgd":
            found["cosine"] = float(-(step * G).sum() / step.norm() / G.norm())
        G = backward(layer, x, y)
        found[f"gradient_A_after_{name}"] = float(delta.A.grad.norm() / G.norm())
        closed = factor_gradients(G, delta.A.detach(), delta.B.detach(), spec.scale)
        found["closed_form_error"] = max(found["closed_form_error"], relative(closed.A, delta.A.grad))
    return found


def gradient_at(delta: Tensor, seed: int, spec: LoraSpec) -> Tensor:
    """The gradient of the loss with respect to ΔW where ΔW is the given matrix, as factors of this rank and scale."""
    base, x, y = problem(seed)
    layer = LoRALinear.adopt(base, Routing("default"))
    term = layer.add_adapter("default", spec)
    factors = balanced_factors(delta, spec.rank, spec.scale)
    with torch.no_grad():
        term.A.copy_(factors.A)
        term.B.copy_(factors.B)
    return backward(layer, x, y)


def backward(layer: LoRALinear, x: Tensor, y: Tensor) -> Tensor:
    """Fill the factors' gradients; returns the weight's, G."""
    layer.zero_grad()
    h = layer(x)
    loss = (h - y).square().sum() / (2 * ROWS)
    loss.backward()
    return weight_gradient((h.detach() - y) / ROWS, x)


def of_the_start(G: Tensor, delta: Any, spec: LoraSpec) -> dict[str, float]:
    """Norms of the gradients at B = 0, over that of G, and how far they are from the closed form."""
    closed = factor_gradients(G, delta.A.detach(), delta.B.detach(), spec.scale)
    return {
        "gradient_B": float(delta.B.grad.norm() / G.norm()),
        "gradient_B_entry": float(delta.B.grad.norm() / G.norm()) / math.sqrt(delta.B.numel()),
        "gradient_A": float(delta.A.grad.norm()),
        "closed_form_error": relative(closed.B, delta.B.grad),
    }


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())
