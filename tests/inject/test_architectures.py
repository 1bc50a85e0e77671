"""Injection into a tiny instance of every architecture: by role, into plain, fused and shared layers."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from expected_targets import expected_modules, rank_cost
from tiny_models import TINY, tiny_batch
from torch import Tensor, nn

from lightning_lora.inject import InjectionReport, eject, enable, inject_adapter, merge
from lightning_lora.lora import LoRALayer, LoraSpec, LowRankDelta, adapter_parameters, lora_layers
from lightning_lora.targets import ROLE_SETS, Role

SPEC = LoraSpec(rank=2)
EVERYWHERE = pytest.mark.parametrize("architecture", sorted(TINY))
CHOICES = pytest.mark.parametrize("choice", ["qv", "qkvo", "all"])
Q, K, V = Role.QUERY, Role.KEY, Role.VALUE
# A fused layer of each kind, its parts in order, and how many heads its output features are interleaved by.
FUSED = {
    "deberta": ("deberta.encoder.layer.1.attention.self.in_proj", (Q, K, V), 4),
    "gpt2": ("transformer.h.1.attn.c_attn", (Q, K, V), 1),
    "gpt_neox": ("gpt_neox.layers.1.attention.query_key_value", (Q, K, V), 4),
    "modernbert": ("model.layers.1.attn.Wqkv", (Q, K, V), 1),
}
WI = ("model.layers.1.mlp.Wi", (Role.GATE, Role.UP), 1)
FUSED_CASES = pytest.mark.parametrize(
    ("architecture", "fused", "choice", "role"),
    [(name, fused, choice, V) for name, fused in FUSED.items() for choice in ("v", "qv", "qkvo")]
    + [(name, fused, "qk", K) for name, fused in FUSED.items()]
    + [("modernbert", WI, "mlp", Role.UP), ("modernbert", WI, "all", Role.GATE)],
)


def _tiny(architecture: str) -> Any:
    torch.manual_seed(0)
    return TINY[architecture]()


def _head(model: Any) -> set[str]:
    """Parameters that a checkpoint of the bare model lacks."""
    return {name for name, _ in model.named_parameters() if not name.startswith(f"{model.base_model_prefix}.")}


def _inject(model: Any, choice: str) -> InjectionReport:
    return inject_adapter(model, SPEC, roles=ROLE_SETS[choice], new_parameters=_head(model))


def _logits(model: Any) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        logits: Tensor = model(**tiny_batch()).logits
    return logits


def _randomise(parameter: Tensor) -> None:
    with torch.no_grad():
        parameter.normal_(std=0.1)


@EVERYWHERE
@CHOICES
def test_report_names_the_expected_modules_and_counts_the_formula(architecture: str, choice: str) -> None:
    model = _tiny(architecture)
    base_size = sum(parameter.numel() for parameter in model.parameters())
    head_size = sum(model.get_parameter(name).numel() for name in _head(model))
    report = _inject(model, choice)

    roles = ROLE_SETS[choice]
    assert len(report.modules) == len({module.name for module in report.modules})
    assert {module.name: module.roles for module in report.modules} == {
        name: tuple(role for role in parts if role in roles)
        for name, parts in expected_modules(architecture, roles).items()
    }
    assert {name for name, _ in lora_layers(model)} == {module.name for module in report.modules}
    expected = SPEC.rank * rank_cost(model.config, roles)
    assert report.totals.adapter == sum(module.parameters for module in report.modules) == expected
    assert sum(parameter.numel() for _, parameter in adapter_parameters(model)) == expected
    assert (report.totals.head, report.totals.other_trainable) == (head_size, 0)
    assert report.totals.frozen == base_size - head_size


@EVERYWHERE
def test_base_is_frozen_and_every_parameter_is_the_one_it_was(architecture: str) -> None:
    model = _tiny(architecture)
    head = _head(model)
    before = dict(model.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in before.items()}
    _inject(model, "all")

    adapters = {name for name, _ in adapter_parameters(model)}
    after = dict(model.named_parameters())
    assert set(after) == set(before) | adapters
    assert all(after[name] is before[name] for name in before)
    assert all(torch.equal(after[name], values[name]) for name in before)
    assert head
    assert {name for name, parameter in after.items() if parameter.requires_grad} == adapters | head
    assert not any(isinstance(model.get_submodule(name.rpartition(".")[0]), LoRALayer) for name in head)


@EVERYWHERE
@pytest.mark.parametrize(
    "copied", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_a_model_with_two_heads_can_be_copied_and_pickled(architecture: str, copied: Callable[[Any], Any]) -> None:
    model = _tiny(architecture)
    head = _head(model)
    original = _logits(model)
    inject_adapter(model, SPEC, roles=ROLE_SETS["all"], new_parameters=head)
    inject_adapter(model, SPEC, roles=ROLE_SETS["all"], adapter="other", new_parameters=head, outputs=3)
    for _, parameter in adapter_parameters(model):
        _randomise(parameter)
    back = copied(model)
    expected = _logits(model)
    assert expected.shape[1] == 3
    enable(model, "default")  # of the model alone
    assert torch.equal(_logits(back), expected)
    enable(back, "default")
    assert torch.equal(_logits(back), _logits(model))
    assert torch.equal(_logits(eject(back)), original)
    assert not list(lora_layers(back))


@EVERYWHERE
@CHOICES
def test_logits_start_as_the_base_and_merging_keeps_what_was_learnt(architecture: str, choice: str) -> None:
    model = _tiny(architecture)
    base = _logits(model)
    _inject(model, choice)
    torch.testing.assert_close(_logits(model), base, rtol=0, atol=0)

    for _, layer in lora_layers(model):
        _randomise(layer.adapters["default"].B)
    adapted = _logits(model)
    assert (adapted - base).abs().max() > 1e-3

    merge(model)
    plain = _tiny(architecture)
    plain.load_state_dict(eject(model).state_dict(), strict=True)
    torch.testing.assert_close(_logits(plain), adapted, rtol=1e-5, atol=1e-5)


@EVERYWHERE
@CHOICES
def test_every_adapter_acts_on_the_logits(architecture: str, choice: str) -> None:
    """The loss has a gradient in every B: no adapted layer is passed by, its weight read behind the adapter's back."""
    model = _tiny(architecture)
    _inject(model, choice)
    torch.manual_seed(1)
    model(**tiny_batch()).logits.square().sum().backward()
    for name, layer in lora_layers(model):
        delta = layer.adapters["default"]
        for part in delta.B.grad.chunk(len(delta.layout.adapted)):
            assert part.abs().max() > 0, name


def test_shared_layers_of_albert_are_adapted_once_and_run_at_every_depth() -> None:
    model = _tiny("albert")
    report = _inject(model, "all")
    assert len(report.modules) == len(list(lora_layers(model))) == 6
    calls: list[nn.Module] = []
    for _, layer in lora_layers(model):
        layer.adapters["default"].register_forward_hook(lambda module, args, output: calls.append(module))
    _logits(model)
    assert len(calls) == 6 * model.config.num_hidden_layers == 18


def _weight(layer: nn.Module) -> Tensor:
    """The weight as (out, in)."""
    weight = layer.get_parameter("weight").detach().clone()
    return weight.T if type(layer).__name__.endswith("Conv1D") else weight


def _slices(weight: Tensor, parts: tuple[Role, ...], groups: int) -> dict[Role, Tensor]:
    """The rows of every part, cut out head by head."""
    width = len(weight) // (groups * len(parts))
    starts = {part: [(group * len(parts) + n) * width for group in range(groups)] for n, part in enumerate(parts)}
    return {part: torch.cat([weight[start : start + width] for start in starts[part]]) for part in parts}


@FUSED_CASES
def test_a_part_of_a_fused_layer_changes_alone(
    architecture: str, fused: tuple[str, tuple[Role, ...], int], choice: str, role: Role
) -> None:
    name, parts, groups = fused
    model = _tiny(architecture)
    base = _slices(_weight(model.get_submodule(name)), parts, groups)
    _inject(model, choice)
    layer = model.get_submodule(name)
    delta = layer.adapters["default"]
    assert isinstance(delta, LowRankDelta)
    adapted = [part for part in parts if part in ROLE_SETS[choice]]
    A = delta.A.detach().chunk(len(adapted))[adapted.index(role)]
    B = delta.B.detach().chunk(len(adapted))[adapted.index(role)]
    _randomise(B)

    merge(model)
    merged = _slices(_weight(layer), parts, groups)
    assert {part for part in parts if not torch.equal(merged[part], base[part])} == {role}
    torch.testing.assert_close(merged[role], base[role] + SPEC.scale * B @ A)


@pytest.mark.parametrize(("layers", "stacks"), [({0}, {"encoder", "decoder"}), ({2}, {"decoder"})])
def test_layer_numbers_of_t5_apply_to_encoder_and_decoder(layers: set[int], stacks: set[str]) -> None:
    model = _tiny("t5")
    report = inject_adapter(model, SPEC, layers=layers)
    assert {module.name.split(".")[1] for module in report.modules} == stacks
    assert {int(module.name.split(".")[3]) for module in report.modules} == layers
