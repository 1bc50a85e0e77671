"""Ten thousand merges leave every weight bit-equal; PEFT's own unmerging, on the same layers, does not."""

import copy
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from lightning_lora.inject import eject, inject_adapter, merge, unmerge
from lightning_lora.lora import LoraSpec, adapter_parameters, lora_layers

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CYCLES = 10_000


def adapted(dtype: torch.dtype) -> nn.Module:
    """A small Linear layer with a random adapter; layers of the other kinds merge by the same code (tests/lora)."""
    model = nn.Sequential(nn.Linear(32, 24)).to(dtype)
    inject_adapter(model, LoraSpec(rank=2, dtype=torch.promote_types(dtype, torch.float32)), modules=["0"])
    for _, parameter in adapter_parameters(model):
        nn.init.normal_(parameter)
    return model


def peft_drift(model: nn.Module, cycles: int) -> float:
    """How far PEFT's merge and unmerge, with its defaults, move the weight from where it was."""
    (_, adapted_layer), *_ = lora_layers(model)
    base = copy.deepcopy(adapted_layer._base[0])
    before = base.weight.detach().clone()
    wrapped = get_peft_model(nn.Sequential(base), LoraConfig(r=2, lora_alpha=4, target_modules=["0"]))
    layer = wrapped.base_model.model[0]
    layer.lora_A["default"].weight.data.copy_(adapted_layer.adapters["default"].A)
    layer.lora_B["default"].weight.data.copy_(adapted_layer.adapters["default"].B)
    for _ in range(cycles):
        layer.merge(safe_merge=False)
        layer.unmerge()
    return float((layer.base_layer.weight - before).abs().max())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ten_thousand_cycles_leave_every_weight_bit_equal_where_peft_drifts(dtype: torch.dtype) -> None:
    model = adapted(dtype)
    before: dict[str, Tensor] = {name: value.clone() for name, value in model.state_dict().items()}
    drift = [peft_drift(model, cycles) for cycles in (1, 200)]
    for _ in range(CYCLES):
        merge(model)
        unmerge(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())

    assert drift[1] > 0
    if dtype in (torch.bfloat16, torch.float16):
        assert drift[1] > 2 * drift[0] > 0


def test_merging_and_ejecting_keeps_no_second_copy_of_a_weight() -> None:
    model = adapted(torch.float32)
    frozen = [weakref.ref(layer.weight) for _, layer in lora_layers(model)]
    merge(model)
    assert all(weight() is not None for weight in frozen)
    eject(model)
    assert all(weight() is None for weight in frozen)
    assert not list(lora_layers(model))
