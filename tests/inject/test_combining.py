"""New adapters made of others, against PEFT's `add_weighted_adapter`, dense matrices and the Eckart-Young bound."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import TINY, tiny_batch
from torch import Tensor, nn
from two_tasks import two_tasks

from lightning_lora.inject import (
    adapter_names,
    adapter_state,
    combine_adapters,
    compress_adapter,
    enable,
    inject_adapter,
    merge,
    outputs_of,
)
from lightning_lora.lora import LoraSpec, LowRankDelta, lora_layers
from lightning_lora.targets import ROLE_SETS

WEIGHTS = {"one": 0.7, "two": -0.4}


def two_adapters(architecture: str, *, ranks: tuple[int, int] = (3, 3), roles: str = "all") -> Any:
    """A tiny model with adapters "one" and "two", random, and one head."""
    torch.manual_seed(0)
    model = TINY[architecture]()
    for adapter, rank in zip(WEIGHTS, ranks, strict=True):
        inject_adapter(model, LoraSpec(rank=rank, alpha=5.0), roles=ROLE_SETS[roles], adapter=adapter)
        for _, layer in lora_layers(model):
            nn.init.normal_(layer.adapters[adapter].B, std=0.3)
    return model


def delta_weights(model: nn.Module, adapter: str) -> dict[str, Tensor]:
    """Dense ΔW by layer, in fp64."""
    found: dict[str, Tensor] = {}
    for name, layer in lora_layers(model):
        if adapter in layer.adapters:
            delta = layer.adapters[adapter]
            assert isinstance(delta, LowRankDelta)
            found[name] = delta.weight()
    return found


def wanted(model: nn.Module) -> dict[str, Tensor]:
    one, two = delta_weights(model, "one"), delta_weights(model, "two")
    return {name: WEIGHTS["one"] * one[name] + WEIGHTS["two"] * two[name] for name in one}


def with_peft(
    model: nn.Module, base: nn.Module, ranks: tuple[int, int], kind: str, **options: Any
) -> dict[str, Tensor]:
    """ΔW by layer of PEFT's combination of the same adapters."""
    names = [name for name, _ in lora_layers(model)]
    configs = [LoraConfig(r=rank, lora_alpha=5, target_modules=names) for rank in ranks]
    peer = get_peft_model(copy.deepcopy(base), configs[0], adapter_name="one")
    peer.add_adapter("two", configs[1])
    for name, layer in lora_layers(model):
        other = peer.base_model.model.get_submodule(name)
        for adapter in WEIGHTS:
            other.lora_A[adapter].weight.data.copy_(layer.adapters[adapter].A)
            other.lora_B[adapter].weight.data.copy_(layer.adapters[adapter].B)
    peer.add_weighted_adapter(list(WEIGHTS), list(WEIGHTS.values()), "both", combination_type=kind, **options)
    layers = {name: peer.base_model.model.get_submodule(name) for name in names}
    return {name: layer.get_delta_weight("both").detach().double() for name, layer in layers.items()}


@pytest.mark.parametrize(
    ("method", "kind", "rank", "options", "ranks"),
    [
        ("concatenation", "cat", None, {}, (3, 3)),
        ("concatenation", "cat", None, {}, (2, 4)),
        ("svd", "svd", 2, {"svd_rank": 2}, (3, 3)),
        ("svd", "svd", 5, {"svd_rank": 5}, (2, 4)),
        ("linear", "linear", None, {}, (3, 3)),
    ],
)
def test_it_is_what_peft_computes(
    method: str, kind: str, rank: int | None, options: dict[str, Any], ranks: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    base = TINY["bert"]()
    model = two_adapters("bert", ranks=ranks)
    combine_adapters(model, WEIGHTS, "both", method=method, rank=rank)
    found = delta_weights(model, "both")
    expected = with_peft(model, base, ranks, kind, **options)
    target = wanted(model)
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
        if method != "concatenation":  # the control: the approximations are not the target
            assert (found[name] - target[name]).abs().max() > 1e-2


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "gpt_neox", "llama", "t5"])
@pytest.mark.parametrize("method", ["linear", "concatenation", "svd"])
def test_the_reported_errors_are_the_dense_ones_and_svd_reaches_the_bound(architecture: str, method: str) -> None:
    model = two_adapters(architecture)
    report = combine_adapters(model, WEIGHTS, "both", method=method, rank=2 if method == "svd" else None)
    target, found = wanted(model), delta_weights(model, "both")
    assert [layer.name for layer in report.layers] == list(target)
    for layer in report.layers:
        # Ten times fp32's rounding: the factors are stored in it.
        room = 1e-6 * layer.norm
        assert layer.norm == pytest.approx(float(target[layer.name].norm()), rel=1e-9)
        assert layer.error == pytest.approx(float((target[layer.name] - found[layer.name]).norm()), rel=1e-9, abs=1e-12)
        assert layer.error >= layer.bound - room
        if method == "linear":
            assert layer.error > 1.2 * layer.bound
        else:
            assert layer.error == pytest.approx(layer.bound, abs=room)
    assert report.error == pytest.approx(sum(layer.error**2 for layer in report.layers) ** 0.5)
    assert (report.bound < 1e-9) == (method == "concatenation")


@pytest.mark.parametrize("architecture", ["bert", "gpt_neox"])
def test_the_bound_of_a_layer_is_that_of_dense_svd_part_by_part(architecture: str) -> None:
    model = two_adapters(architecture)
    report = combine_adapters(model, WEIGHTS, "both", rank=2)
    for layer in report.layers:
        delta = model.get_submodule(layer.name).adapters["both"]
        layout, dense = delta.layout, wanted(model)[layer.name]
        by_part = dense.reshape(layout.groups, layout.parts, -1, dense.shape[1])
        squares = [torch.linalg.svdvals(by_part[:, part].flatten(0, 1))[2:].square().sum() for part in layout.adapted]
        assert layer.bound == pytest.approx(float(sum(squares)) ** 0.5, rel=1e-9)


def test_compression_lowers_the_rank_and_full_rank_costs_nothing() -> None:
    model = two_adapters("gpt2", ranks=(6, 1))
    before = delta_weights(model, "one")
    reports = [compress_adapter(model, "one", rank, f"one_{rank}") for rank in (1, 2, 4, 6)]
    errors = [report.error for report in reports]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6 * reports[-1].norm < errors[-2]
    for report, rank in zip(reports, (1, 2, 4, 6), strict=True):
        assert {layer.rank for layer in report.layers} == {rank}
        for name, dense in delta_weights(model, f"one_{rank}").items():
            parts = len(model.get_submodule(name).adapters["one"].layout.adapted)
            assert torch.linalg.matrix_rank(dense, rtol=1e-6) <= rank * parts
    after = delta_weights(model, "one")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert adapter_names(model) == ["one", "two", "one_1", "one_2", "one_4", "one_6"]


@torch.no_grad()
def test_a_compressed_adapter_has_its_head_and_is_neither_in_force_nor_trained() -> None:
    model, new = two_tasks("roberta")
    batch = tiny_batch()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    before = model(**batch).logits
    compress_adapter(model, "b", 3, "b_again")
    assert torch.equal(model(**batch).logits, before)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    assert outputs_of(model, "b_again") == 3
    enable(model, "b_again")
    torch.testing.assert_close(model(**batch).logits, before, rtol=1e-9, atol=1e-11)
    for name in new:
        adapter_state(model, "b_again", new)[name].zero_()
    enable(model, "b")
    assert torch.equal(model(**batch).logits, before)


def test_layers_that_only_one_adapter_has_get_its_share() -> None:
    torch.manual_seed(0)
    model = TINY["bert"]()
    inject_adapter(model, LoraSpec(rank=2), roles=ROLE_SETS["q"], adapter="one")
    inject_adapter(model, LoraSpec(rank=3), roles=ROLE_SETS["qv"], adapter="two")
    for _, layer in lora_layers(model):
        for delta in layer.adapters.values():
            nn.init.normal_(delta.B)
    report = combine_adapters(model, WEIGHTS, "both", method="concatenation")
    assert {layer.name.rpartition(".")[2]: layer.rank for layer in report.layers} == {"query": 5, "value": 3}
    value = "bert.encoder.layer.0.attention.self.value"
    torch.testing.assert_close(
        delta_weights(model, "both")[value], -0.4 * delta_weights(model, "two")[value], rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({}, {}, "weights is empty"),
        ({"one": 1.0, "three": 1.0}, {"rank": 2}, r"no adapter named 'three'; it has \['one', 'two'\]"),
        ({"one": float("nan")}, {"rank": 2}, "the weight of adapter 'one' is nan; it must be finite"),
        (WEIGHTS, {"name": "one", "rank": 2}, "already has an adapter named 'one'"),
        (WEIGHTS, {"name": "a-b", "rank": 2}, "must be an identifier"),
        (WEIGHTS, {"method": "cat"}, "method='cat' is unknown; choose one of linear, concatenation, svd"),
        (WEIGHTS, {}, "rank=None: method='svd' needs a rank from 1 to 5"),
        (WEIGHTS, {"rank": 6}, "rank=6: method='svd' needs a rank from 1 to 5"),
        (WEIGHTS, {"rank": 2, "method": "concatenation"}, "rank=2 has no effect with method='concatenation'"),
        (WEIGHTS, {"method": "linear"}, r"these have ranks \[3, 2\]; use 'svd'"),
        (WEIGHTS, {"rank": 2, "head": "three"}, "no adapter named 'three'"),
    ],
)
def test_what_cannot_be_combined_is_refused_and_nothing_is_added(
    weights: dict[str, float], options: dict[str, Any], message: str
) -> None:
    model = two_adapters("bert", ranks=(3, 2), roles="qv")
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match=message):
        combine_adapters(model, weights, **{"name": "both", **options})
    assert list(model.state_dict()) == keys


def test_different_parts_of_a_fused_layer_cannot_be_combined() -> None:
    model = TINY["gpt2"]()
    inject_adapter(model, LoraSpec(rank=2), roles=ROLE_SETS["q"], adapter="one")
    inject_adapter(model, LoraSpec(rank=2), roles=ROLE_SETS["v"], adapter="two")
    with pytest.raises(ValueError, match="c_attn: the adapters adapt different parts of this fused layer"):
        combine_adapters(model, WEIGHTS, "both", rank=2)


def test_adapters_with_heads_of_their_own_need_a_choice() -> None:
    model, _ = two_tasks("bert")
    with pytest.raises(ValueError, match="adapters 'a', 'b' have heads of their own; say with head="):
        combine_adapters(model, {"a": 1.0, "b": 1.0}, "ab", rank=2)
    combine_adapters(model, {"a": 1.0, "b": 1.0}, "ab", rank=2, head="b")
    combine_adapters(model, {"a": 1.0, "b": 1.0}, "ba", rank=2, head="a")
    assert (outputs_of(model, "ab"), outputs_of(model, "ba")) == (3, 2)
    merge(model, "a")
    with pytest.raises(RuntimeError, match="adapter 'a' is merged; call unmerge"):
        compress_adapter(model, "b", 1, "small")


def test_each_layer_can_have_a_rank_of_its_own() -> None:
    model = two_adapters("bert", ranks=(4, 1))
    names = list(delta_weights(model, "one"))
    ranks = {name: 1 + number % 4 for number, name in enumerate(names)}
    report = compress_adapter(model, "one", ranks, "cut")
    assert {layer.name: layer.rank for layer in report.layers} == ranks
    before, after = delta_weights(model, "one"), delta_weights(model, "cut")
    for layer in report.layers:
        U, S, Vh = torch.linalg.svd(before[layer.name], full_matrices=False)
        rank = ranks[layer.name]
        torch.testing.assert_close(after[layer.name], (U[:, :rank] * S[:rank]) @ Vh[:rank], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nowhere": 1}, "the mapping of ranks names, and no adapter has, nowhere"),
        (
            {"bert.encoder.layer.0.attention.self.query": None},
            "the mapping of ranks says nothing of bert.encoder.layer.0",
        ),
        ({"bert.encoder.layer.1.output.dense": 0}, "bert.encoder.layer.1.output.dense: rank=0 must lie in 1 to 4"),
        ({"bert.encoder.layer.1.output.dense": 5}, "bert.encoder.layer.1.output.dense: rank=5 must lie in 1 to 4"),
    ],
)
def test_a_mapping_of_ranks_that_does_not_fit_changes_nothing(changed: dict[str, int | None], message: str) -> None:
    model = two_adapters("bert", ranks=(4, 1))
    ranks = {
        name: rank
        for name, rank in (dict.fromkeys(delta_weights(model, "one"), 2) | changed).items()
        if rank is not None
    }
    with pytest.raises(ValueError, match=message):
        compress_adapter(model, "one", ranks, "cut")
    assert adapter_names(model) == ["one", "two"]
