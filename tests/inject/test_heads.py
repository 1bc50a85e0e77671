"""A head for each adapter: what it is made of, how it starts, and what is refused."""

from typing import Any

import pytest
import torch
from tiny_models import TINY, tiny_batch
from torch import nn
from two_tasks import ARCHITECTURES, new_names, two_tasks

from lightning_lora.inject import adapter_state, enable, head_names, inject_adapter, new_modules, outputs_of
from lightning_lora.lora import LoraSpec, lora_layers

SPEC = LoraSpec(rank=2)


def tiny(architecture: str) -> tuple[Any, list[str]]:
    torch.manual_seed(0)
    model = TINY[architecture]()
    return model, new_names(model)


def test_the_head_is_named_as_one_module() -> None:
    model, new = tiny("roberta")
    assert new_modules(model, new) == ["classifier"]
    assert new_modules(model, ["classifier.dense.weight", "classifier.dense.bias"]) == ["classifier.dense"]
    bert, new = tiny("bert")
    assert new_modules(bert, new) == ["bert.pooler", "classifier"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_of_its_own_starts_as_the_model_starts_one_and_the_first_is_untouched(architecture: str) -> None:
    model, new = tiny(architecture)
    before = {name: model.get_parameter(name).clone() for name in new}
    inject_adapter(model, SPEC, adapter="a", new_parameters=new)
    report = inject_adapter(model, SPEC, adapter="b", new_parameters=new, outputs=200)
    assert (outputs_of(model, "a"), outputs_of(model, "b")) == (2, 200)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in before.items())

    own = head_names(model, "b", new)
    assert report.totals.head == sum(model.get_parameter(name).numel() for name in own.values())
    assert {name for name, p in model.named_parameters() if p.requires_grad and "adapters.b" not in name} == set()
    for name, mine in own.items():
        value, first = model.get_parameter(mine).detach(), before[name].detach()
        if value.ndim == 2:
            assert mine != name
            assert value.shape != first.shape or not torch.equal(value, first)
            assert float(value.std()) == pytest.approx(float(first.std()), rel=0.35)
        elif value.shape == first.shape:
            assert torch.equal(value, first)  # biases at zero, norms at one


def test_a_model_without_a_rule_of_its_own_starts_heads_as_torch_does() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    for adapter in ("a", "b"):
        inject_adapter(model, SPEC, modules=["0"], adapter=adapter, new_parameters=["1.weight", "1.bias"])
    own = model[1].adapters["b"]
    assert type(own) is nn.Linear
    assert 0 < float(own.weight.detach().abs().max()) <= 8**-0.5
    assert not torch.equal(own.weight, model[1].weight)


def test_a_hook_on_the_head_runs_once_whichever_adapter_is_in_force() -> None:
    """Also where it stood there before the head was copied, or between two copies."""
    model, new = tiny("bert")
    calls: list[str] = []
    model.classifier.register_forward_hook(lambda *_: calls.append("first"))
    inject_adapter(model, SPEC, adapter="a", new_parameters=new)
    inject_adapter(model, SPEC, adapter="b", new_parameters=new)
    handle = model.classifier.register_forward_hook(lambda *_: calls.append("second"))
    inject_adapter(model, SPEC, adapter="c", new_parameters=new)
    for adapter in ("a", "b", "c"):
        enable(model, adapter)
        calls.clear()
        model(**tiny_batch())
        assert calls == ["first", "second"], adapter
    handle.remove()
    calls.clear()
    model(**tiny_batch())
    assert calls == ["first"]


def test_an_adapter_without_new_parameters_shares_the_head_in_the_model() -> None:
    model, new = tiny("bert")
    inject_adapter(model, SPEC, adapter="a", new_parameters=new)
    inject_adapter(model, SPEC, adapter="b")
    assert head_names(model, "b", new) == {name: name for name in new}
    assert not [name for name in adapter_state(model, "b") if not name.endswith((".A", ".B"))]
    assert outputs_of(model, "b") is None


def test_a_third_adapter_by_name_passes_the_heads_by() -> None:
    model, new = two_tasks("roberta", dtype=torch.float32)
    report = inject_adapter(model, SPEC, modules=["dense"], adapter="c", new_parameters=new)
    assert len(report.modules) == 6
    assert all(".layer." in module.name for module in report.modules)
    assert not [name for name, _ in lora_layers(model) if name.startswith("classifier")]


@pytest.mark.parametrize(
    ("new", "outputs", "message"),
    [
        (["classifier.out_proj.weight"], None, "classifier.out_proj.weight is new, but other parameters of its module"),
        ([], 3, "outputs=3 has no effect without new parameters"),
        (["classifier.dense.weight", "classifier.dense.bias"], 3, "the last layer of classifier.dense is no Linear"),
        (None, 0, "outputs=0 must be at least 1"),
    ],
)
def test_heads_that_cannot_be_are_refused_and_the_model_is_unchanged(
    new: list[str] | None, outputs: int | None, message: str
) -> None:
    model, every = tiny("roberta")
    inject_adapter(model, SPEC, adapter="a", new_parameters=every)
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match=message):
        inject_adapter(model, SPEC, adapter="b", new_parameters=every if new is None else new, outputs=outputs)
    assert list(model.state_dict()) == keys


def test_the_first_adapter_takes_the_head_as_it_is() -> None:
    model, new = tiny("bert")
    with pytest.raises(ValueError, match="outputs=3: the first adapter's head is the one in the model"):
        inject_adapter(model, SPEC, new_parameters=new, outputs=3)
    assert not list(lora_layers(model))
