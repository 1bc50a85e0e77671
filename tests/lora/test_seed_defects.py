"""The code defects E15 to E26 of the document this project implements, each as behaviour of our layers.

E13 to E15, E20, E23 and E26 concern whole models and stand in tests/inject/test_seed_defects.py; E19 (an attention
wrapper without a forward) and E25 (a demo model's scaling) have no counterpart, since no layer is declared anew here.
"""

import pytest
import torch
from torch import Tensor, nn

from lightning_lora.lora import LoRALinear, LoraSpec, Routing


def adapted(base: nn.Linear, *, rank: int = 4, dropout: float = 0.0) -> LoRALinear:
    layer = LoRALinear.adopt(base.requires_grad_(False), Routing("default"))
    nn.init.normal_(layer.add_adapter("default", LoraSpec(rank=rank, dropout=dropout)).B)
    return layer


def test_e16_the_delta_is_never_counted_twice() -> None:
    base = nn.Linear(8, 8)
    x = torch.randn(3, 8)
    base_output = base(x)
    layer = adapted(base)
    delta = layer(x) - base_output
    layer.merge("default")
    assert float(((layer(x) - base_output).norm() / delta.norm()).detach()) == pytest.approx(1, rel=1e-5)
    with pytest.raises(RuntimeError, match="already merged"):
        layer.merge("default")
    layer.unmerge()
    with pytest.raises(RuntimeError, match="nothing is merged"):
        layer.unmerge()


def test_e16_dropout_has_no_part_in_a_merge_and_modes_never_merge() -> None:
    layer = adapted(nn.Linear(8, 8), dropout=0.5)
    x = torch.randn(3, 8)
    expected = layer.eval()(x)
    weight = layer.weight.clone()
    layer.train()
    layer.merge("default")
    torch.testing.assert_close(layer(x), expected)
    layer.unmerge()
    for mode in (True, False):
        layer.train(mode)
        assert layer.merged_adapter is None
        assert torch.equal(layer.weight, weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_e17_unmerge_is_exact_where_subtracting_is_not(dtype: torch.dtype) -> None:
    layer = adapted(nn.Linear(64, 64).to(dtype))
    before = layer.weight.clone()
    layer.merge("default")
    delta = layer.adapters["default"].weight().to(dtype)
    subtracted = layer.weight - delta
    layer.unmerge()
    assert torch.equal(layer.weight, before)
    assert not torch.equal(subtracted, before), "the control: what the document's unmerge gives"


def test_e18_the_base_output_that_others_hold_is_not_changed() -> None:
    base = nn.Linear(8, 8)
    held: list[Tensor] = []

    class Holding(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            held.append(output)
            return output

    base.__class__ = Holding
    x = torch.randn(3, 8)
    expected = base(x)

    class LoRAHolding(LoRALinear, Holding):  # type: ignore[misc]
        pass

    layer = LoRAHolding.adopt(base.requires_grad_(False), Routing("default"))
    nn.init.normal_(layer.add_adapter("default", LoraSpec(rank=2)).B)
    held.clear()
    output = layer(x)
    assert torch.equal(held[0], expected)
    assert not torch.equal(output, expected)


def test_e18_adapters_can_be_batched_with_vmap() -> None:
    layer = adapted(nn.Linear(8, 6))
    x = torch.randn(5, 8)
    stacks = {
        f"adapters.default.{name}": torch.randn(3, *p.shape) for name, p in layer.adapters["default"].named_parameters()
    }
    together = torch.func.vmap(lambda factors: torch.func.functional_call(layer, factors, (x,)))(stacks)
    alone = [torch.func.functional_call(layer, {k: v[i] for k, v in stacks.items()}, (x,)) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_e18_an_fp32_delta_is_not_rounded_before_the_sum() -> None:
    layer = adapted(nn.Linear(64, 64, bias=False).bfloat16())
    x = torch.randn(200, 64).bfloat16()
    exact = (layer.weight.double() + layer.adapters["default"].weight()) @ x.T.double()
    base_output = torch.nn.functional.linear(x, layer.weight)
    early = base_output + (layer.adapters["default"](x)).bfloat16()
    assert (layer(x).double() - exact.T).abs().mean() < (early.double() - exact.T).abs().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_e21_adapters_are_fp32_on_the_base_layers_device(dtype: torch.dtype) -> None:
    layer = adapted(nn.Linear(8, 8).to(dtype))
    assert {p.dtype for p in layer.adapters.parameters()} == {torch.float32}
    assert layer(torch.randn(2, 8, dtype=dtype)).dtype == dtype
    on_meta = LoRALinear.adopt(nn.Linear(8, 8, device="meta"), Routing("default"))
    assert on_meta.add_adapter("default", LoraSpec(rank=2)).A.device.type == "meta"


def test_e22_what_others_read_of_a_layer_is_still_there() -> None:
    base = nn.Linear(8, 6)
    layer = adapted(base)
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.out_features) == (8, 6)
    assert layer.weight is base.weight
    assert layer.bias is base.bias


def test_e24_dropout_is_in_reach_and_acts_on_the_delta_only() -> None:
    base = nn.Linear(8, 6)
    x = torch.ones(4000, 8)
    base_output = base(x)
    layer = adapted(base, dropout=0.5)
    in_training = layer.train()(x) - base_output
    assert in_training.std(dim=0).min() > 0.01
    torch.testing.assert_close(in_training.mean(dim=0), (layer.eval()(x) - base_output)[0], atol=0.25, rtol=0)


def test_e24_base_checkpoints_still_load() -> None:
    layer = adapted(nn.Linear(8, 6))
    other = nn.Linear(8, 6)
    result = layer.load_state_dict(other.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert torch.equal(layer.weight, other.weight)


def test_switching_under_a_merged_weight_is_refused() -> None:
    layer = adapted(nn.Linear(8, 6))
    layer.merge("default")
    layer.routing.adapter = None
    with pytest.raises(RuntimeError, match="call unmerge"):
        layer(torch.randn(2, 8))


def test_a_merged_layer_moves_with_its_set_aside_weight() -> None:
    layer = adapted(nn.Linear(8, 6))
    expected = layer.weight.detach().bfloat16()
    layer.merge("default")
    layer.to(torch.bfloat16)
    layer.unmerge()
    assert torch.equal(layer.weight, expected)


def test_merging_a_diverged_adapter_is_refused_and_changes_nothing() -> None:
    layer = adapted(nn.Linear(8, 6))
    weight = layer.weight
    with torch.no_grad():
        layer.adapters["default"].B[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        layer.merge("default")
    assert layer.weight is weight
    assert layer.merged_adapter is None


def test_autocast_runs_the_delta_in_its_type() -> None:
    layer = adapted(nn.Linear(8, 6))
    x = torch.randn(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), layer(x), atol=0.2, rtol=0.05)
