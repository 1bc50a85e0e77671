"""Settings for each layer: a mapping from names to specs, which must fit what is selected exactly."""

import copy

import pytest
import torch
from tiny_models import TINY

from lightning_lora.inject import inject_adapter
from lightning_lora.lora import LoraSpec, lora_layers
from lightning_lora.targets import ROLE_SETS

QUERY, VALUE = (f"bert.encoder.layer.1.attention.self.{name}" for name in ("query", "value"))
SPECS = {QUERY: LoraSpec(rank=1, alpha=5.0), VALUE: LoraSpec(rank=3, dropout=0.1)}


def test_each_layer_has_its_own_spec() -> None:
    model = TINY["bert"]()
    report = inject_adapter(model, SPECS, layers=[1])
    assert {module.name: module.rank for module in report.modules} == {QUERY: 1, VALUE: 3}
    assert report.totals.adapter == 1 * 32 + 3 * 32
    deltas = {name: layer.adapters["default"] for name, layer in lora_layers(model)}
    assert {name: (delta.scale, delta.dropout.p) for name, delta in deltas.items()} == {QUERY: (5, 0), VALUE: (2, 0.1)}


def test_one_spec_is_the_mapping_that_gives_it_to_every_layer() -> None:
    one = TINY["gpt2"]()
    other = copy.deepcopy(one)
    torch.manual_seed(0)
    report = inject_adapter(one, LoraSpec(rank=2), roles=ROLE_SETS["all"])
    torch.manual_seed(0)
    mapped = inject_adapter(other, {m.name: LoraSpec(rank=2) for m in report.modules}, roles=ROLE_SETS["all"])
    assert mapped == report
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ({QUERY: LoraSpec(rank=1)}, f"says nothing of {VALUE}, which is selected"),
        ({**SPECS, "classifier": LoraSpec(rank=1)}, "the spec for 'classifier' has no effect"),
        (
            {**SPECS, VALUE: LoraSpec(rank=17)},
            "rank=17 is larger than layer .*value.* 16 x 16, .* 1 to 16",
        ),
        ({}, "says nothing of"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(specs: dict[str, LoraSpec], said: str) -> None:
    model = TINY["bert"]()
    with pytest.raises(ValueError, match=said):
        inject_adapter(model, specs, layers=[1])
    assert not list(lora_layers(model))
    assert all(parameter.requires_grad for parameter in model.parameters())
