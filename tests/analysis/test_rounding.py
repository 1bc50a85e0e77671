"""The bound of rounding against the layer itself, and where there is none."""

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


@pytest.mark.parametrize(("dtype", "width"), [(torch.bfloat16, 256), (torch.float16, 4096)])
def test_of_too_long_a_sum_there_is_no_bound(dtype: torch.dtype, width: int) -> None:
    x, weight, A, B = (torch.ones(shape, dtype=dtype) for shape in ((1, width), (2, width), (1, width), (2, 1)))
    with pytest.raises(ValueError, match="has no bound"):
        forward_rounding_bound(x, weight, A, B, 1.0)
    assert forward_rounding_bound(x[:, :8], weight[:, :8], A[:, :8], B, 1.0).min() > 0
