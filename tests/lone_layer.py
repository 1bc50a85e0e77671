"""One linear layer with an adapter in training, as one step of autograd or as a composition; what its tests share."""

import pytest
import torch
from torch import Tensor, nn

from lightning_lora.lora import LoRALayer, LoRALinear, LoraSpec, LowRankDelta, Routing

DROPOUTS = pytest.mark.parametrize("dropout", [0.0, 0.4])

ROWS, WIDTH, RANK = 40, 32, 2


class Composed(LoRALinear):
    """The same layer as a composition of operations: it never says that its base is a linear layer."""

    linear_forward = None


def adapted(
    lora_class: type[LoRALayer] = LoRALinear, dropout: float = 0.0, base_type: torch.dtype = torch.float64
) -> LoRALayer:
    """A layer (WIDTH, WIDTH) in training whose values are those of seed 3; its factors are at least fp32."""
    torch.manual_seed(3)
    base = nn.Linear(WIDTH, WIDTH).to(base_type).requires_grad_(False)
    layer = lora_class.adopt(base, Routing("default"))
    spec = LoraSpec(RANK, dropout=dropout, dtype=torch.promote_types(base_type, torch.float32))
    nn.init.normal_(layer.add_adapter("default", spec).B)
    return layer.train()


def rows() -> Tensor:
    return torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True)


def delta_of(layer: LoRALayer) -> LowRankDelta:
    delta = layer.adapters["default"]
    assert isinstance(delta, LowRankDelta)
    return delta


def is_fused(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_AdaptedLinearBackward"


def gradients(layer: LoRALayer, x: Tensor, seed: int = 5) -> tuple[Tensor, ...]:
    """Of the sum of sines of the output, with respect to x, A and B."""
    torch.manual_seed(seed)
    return torch.autograd.grad(layer(x).sin().sum(), (x, delta_of(layer).A, delta_of(layer).B))
