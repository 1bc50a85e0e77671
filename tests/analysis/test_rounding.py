"""The bound of rounding against the layer itself, in every type that the sum is computed in."""

import pytest
import torch
from torch import nn

from lightning_lora.analysis import forward_rounding_bound
from lightning_lora.lora import LoRALinear, LoraSpec, Routing


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rank", [1, 8])
def test_merged_and_adapted_differ_by_less_and_by_no_less_than_rounding(dtype: torch.dtype, rank: int) -> None:
    base = nn.Linear(96, 40, bias=False, dtype=dtype).requires_grad_(False)
    layer = LoRALinear.adopt(base, Routing("default"))
    delta = layer.add_adapter("default", LoraSpec(rank, dtype=dtype))
    nn.init.normal_(delta.B)
    x = torch.randn(50, 96, dtype=dtype)
    bound = forward_rounding_bound(x, layer.weight, delta.A.detach(), delta.B.detach(), delta.scale)
    adapted = layer(x).detach()
    layer.merge("default")
    difference = (layer(x) - adapted).abs()
    assert bool((difference <= bound).all())
    assert bool(difference.any()), "the control: the two are not computed alike"
    assert float(bound.max() / adapted.abs().max()) < 1e3 * torch.finfo(dtype).eps, "a bound that says something"
    with torch.no_grad():
        layer.weight[0, 0] += 1e-3 if dtype == torch.float32 else 1e-9
    assert not bool(((layer(x) - adapted).abs() <= bound).all()), "the control: a weight that is a little wrong"
