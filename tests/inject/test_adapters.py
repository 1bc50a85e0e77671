"""Many adapters on one base: switching, deleting, swapping what is merged, swapping values without recompiling."""

import copy
from typing import Any

import pytest
import torch
from tiny_models import TINY
from torch import Tensor, nn
from two_tasks import ARCHITECTURES, batch, new_names, randomise, two_tasks

from lightning_lora.inject import (
    adapter_names,
    adapter_state,
    delete_adapter,
    disabled,
    eject,
    enable,
    inject_adapter,
    merge,
    merged,
    merged_adapter,
    swap_merged,
    swap_values,
    train_adapters,
    unmerge,
)
from lightning_lora.lora import LoRALayer, LoraSpec, Routed, adapter_parameters, lora_layers, routed_modules
from lightning_lora.targets import ROLE_SETS

EVERYWHERE = pytest.mark.parametrize("architecture", ARCHITECTURES)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    torch.manual_seed(1)
    found: Tensor = model(**batch()).logits
    return found


def base_and_single(architecture: str) -> tuple[Any, Any, Any]:
    """The two-task model, and for each adapter a model that was only ever given that one, with equal values."""
    model, new = two_tasks(architecture)
    singles = []
    for adapter, rank, outputs in (("a", 2, 2), ("b", 3, 3)):
        torch.manual_seed(0)
        single: Any = TINY[architecture]().double()
        if outputs == 3:
            resize(single, new)
        spec = LoraSpec(rank=rank, dtype=torch.float64)
        inject_adapter(single, spec, roles=ROLE_SETS["all"], adapter=adapter, new_parameters=new)
        swap_values(single, adapter, adapter_state(model, adapter, new))
        singles.append(single)
    return model, singles[0], singles[1]


def resize(model: Any, new: list[str]) -> None:
    """Three outputs instead of two, by hand."""
    path = next(name for name in reversed(new) if name.endswith("weight")).rpartition(".")[0]
    parent, _, key = path.rpartition(".")
    old = model.get_submodule(path)
    layer = nn.Linear(old.in_features, 3, old.bias is not None, dtype=torch.float64)
    setattr(model.get_submodule(parent), key, layer)
    model.config.num_labels = 3


@EVERYWHERE
def test_switching_an_adapter_switches_its_factors_and_its_head(architecture: str) -> None:
    model, only_a, only_b = base_and_single(architecture)
    for adapter, single in (("a", only_a), ("b", only_b), ("a", only_a)):
        enable(model, adapter)
        assert torch.equal(logits(model), logits(single))
    with disabled(model), disabled(only_a):
        assert torch.equal(logits(model), logits(only_a))
    assert logits(only_a).shape != logits(only_b).shape


@EVERYWHERE
def test_the_keys_and_parameter_objects_of_the_base_stay(architecture: str) -> None:
    torch.manual_seed(0)
    model: Any = TINY[architecture]()
    before, new = dict(model.named_parameters()), new_names(model)
    keys = set(model.state_dict())
    for adapter in ("a", "b", "c"):
        inject_adapter(model, LoraSpec(rank=1), adapter=adapter, new_parameters=new)
    assert adapter_names(model) == ["a", "b", "c"]
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert {key for key in model.state_dict() if ".adapters." not in key} == keys
    assert sum(isinstance(module, Routed) and not isinstance(module, LoRALayer) for module in model.modules()) > 0


@EVERYWHERE
def test_merging_for_a_while_leaves_the_active_adapter_active(architecture: str) -> None:
    model, _ = two_tasks(architecture)
    enable(model, "a")
    expected = logits(model)
    with merged(model, "b"):
        assert logits(model).shape != expected.shape
    assert torch.equal(logits(model), expected)
    with disabled(model):
        base = logits(model)
        with merged(model, "b"):
            pass
        assert torch.equal(logits(model), base)
    with disabled(model), pytest.raises(ValueError, match="no adapter is active; name the one to merge"):
        merge(model)


@pytest.mark.parametrize("name", ["train", "training", "values", "my-adapter"])
def test_a_name_that_no_adapter_can_have_leaves_the_model_unchanged(name: str) -> None:
    model = TINY["bert"]()
    before = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match=f"adapter name '{name}'"):
        inject_adapter(model, LoraSpec(2), roles=ROLE_SETS["qv"], adapter=name)
    assert [type(module) for module in model.modules()] == before


@EVERYWHERE
def test_deleting_leaves_the_others_as_they_are_and_no_trace(architecture: str) -> None:
    model, only_a, only_b = base_and_single(architecture)
    enable(model, "a")
    delete_adapter(model, "b")
    assert adapter_names(model) == ["a"]
    assert torch.equal(logits(model), logits(only_a))
    assert set(model.state_dict()) == set(only_a.state_dict())
    delete_adapter(model, "a")
    assert not list(routed_modules(model))
    eject(only_a)
    assert torch.equal(logits(model), logits(only_a))

    model, _, _ = base_and_single(architecture)
    delete_adapter(model, "a")  # not the one in force
    assert torch.equal(logits(model), logits(only_b))


def test_deleting_the_adapter_in_force_leaves_the_base() -> None:
    model, _ = two_tasks("bert")
    delete_adapter(model, "b")
    after = logits(model)
    with disabled(model):
        assert torch.equal(logits(model), after)
    with pytest.raises(ValueError, match="no adapter named 'b'; it has \\['a'\\]"):
        enable(model, "b")


@EVERYWHERE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_swapping_what_is_merged_leaves_no_trace(architecture: str, dtype: torch.dtype) -> None:
    model, _ = two_tasks(architecture, dtype=dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    once = copy.deepcopy(model)
    merge(once, "b")
    merge(model, "a")
    for adapter in ("b", "a") * 3 + ("b",):
        swap_merged(model, adapter)
        assert merged_adapter(model) == adapter
    assert torch.equal(logits(model), logits(once))
    unmerge(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(after is parameters[name] for name, after in model.named_parameters())


@EVERYWHERE
def test_the_merged_head_stands_under_the_keys_of_the_base(architecture: str) -> None:
    model, _, only_b = base_and_single(architecture)
    enable(model, "b")
    unmerged = logits(model)
    merge(model, "b")
    torch.testing.assert_close(logits(model), unmerged, rtol=1e-8, atol=1e-10)
    merge(only_b)
    plain = TINY[architecture]().double()
    resize(plain, new_names(plain))
    plain.load_state_dict(eject(model).state_dict(), strict=True)
    assert torch.equal(logits(plain), logits(only_b))


def test_a_swap_that_fails_leaves_what_was_merged() -> None:
    model, _ = two_tasks("bert")
    merge(model, "a")
    before = logits(model)
    with torch.no_grad():
        list(adapter_parameters(model, "b"))[-1][1].fill_(torch.inf)
    with pytest.raises(ValueError, match="not finite"):
        swap_merged(model, "b")
    with pytest.raises(ValueError, match="no adapter named 'c'"):
        swap_merged(model, "c")
    assert merged_adapter(model) == "a"
    assert torch.equal(logits(model), before)
    unmerge(model)
    with pytest.raises(RuntimeError, match="nothing is merged"):
        swap_merged(model, "a")


def test_a_merged_adapter_is_neither_deleted_nor_changed() -> None:
    model, new = two_tasks("bert")
    merge(model, "b")
    with pytest.raises(RuntimeError, match="adapter 'b' is merged; call unmerge"):
        delete_adapter(model, "b")
    with pytest.raises(RuntimeError, match="adapter 'b' is merged; call unmerge"):
        swap_values(model, "b", adapter_state(model, "b", new))
    enable(model, "a")
    with pytest.raises(RuntimeError, match="adapter 'b' is merged into the weights, but 'a' is asked for"):
        logits(model)


def test_values_are_found_where_they_lie_also_while_a_head_is_merged() -> None:
    model, new = two_tasks("roberta")
    states = {name: {k: v.clone() for k, v in adapter_state(model, name, new).items()} for name in ("a", "b")}
    merge(model, "b")
    for name, state in states.items():
        found = adapter_state(model, name, new)
        assert set(found) == set(state)
        assert all(torch.equal(found[key], value) for key, value in state.items())


def test_other_values_are_written_whole_or_not_at_all() -> None:
    model, new = two_tasks("bert")
    before = {key: value.clone() for key, value in adapter_state(model, "a", new).items()}
    other = {key: value + 1 for key, value in before.items()}
    key = next(iter(before))
    with pytest.raises(ValueError, match=f"'{key}' is in the model only"):
        swap_values(model, "a", {name: value for name, value in other.items() if name != key})
    with pytest.raises(ValueError, match=r"'elsewhere\.A' is in the new values only; 1 names differ"):
        swap_values(model, "a", {**other, "elsewhere.A": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"is \(2, 16\) here and \(3, 16\) in the new values"):
        swap_values(model, "a", {**other, key: torch.zeros(3, 16)})
    assert all(torch.equal(value, before[name]) for name, value in adapter_state(model, "a", new).items())
    swap_values(model, "a", other)
    assert all(torch.equal(value, other[name]) for name, value in adapter_state(model, "a", new).items())


def test_training_several_adapters_at_once() -> None:
    model, new = two_tasks("bert")
    train_adapters(model, ["a", "b"], new)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    factors = {name for name, _ in adapter_parameters(model)}
    heads = {name for name in dict(model.named_parameters()) if name.startswith(("classifier", "bert.pooler"))}
    assert trained == factors | heads
    train_adapters(model, ["b"], new)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name in factors | heads if ".adapters.b." in name}


@pytest.mark.usefixtures("_plain_functions")
def test_swapping_values_and_switching_back_does_not_recompile() -> None:
    """Dynamo calls the backend once for each graph it compiles: one for each adapter, none for new values."""
    graphs: list[torch.fx.GraphModule] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    for adapter in ("a", "b"):
        inject_adapter(model, LoraSpec(rank=2), modules=["0", "2"], adapter=adapter)
        randomise(model, adapter, [])
    torch._dynamo.reset()
    compiled = torch.compile(model, backend=counting)
    x = torch.randn(3, 6)
    for adapter in ("a", "b"):
        enable(model, adapter)
        torch.testing.assert_close(compiled(x), model(x))
    compiled_once = len(graphs)
    assert compiled_once >= 2
    before = compiled(x)
    for adapter in ("b", "a", "b"):
        enable(model, adapter)
        swap_values(model, adapter, {key: -value for key, value in adapter_state(model, adapter).items()})
        torch.testing.assert_close(compiled(x), model(x))
    swap_values(model, "b", {key: value * 2 for key, value in adapter_state(model, "b").items()})
    assert not torch.allclose(compiled(x), before)
    assert len(graphs) == compiled_once

    # The control: an adapter of another rank in the same place is another graph.
    delete_adapter(model, "b")
    inject_adapter(model, LoraSpec(rank=1), modules=["0", "2"], adapter="b")
    compiled(x)
    assert len(graphs) > compiled_once
    assert [name for name, _ in lora_layers(model)] == ["0", "2"]
