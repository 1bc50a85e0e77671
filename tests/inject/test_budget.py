"""Budgets: equal parameters on other layers, by the paper's closed form, by even ranks, or not at all."""

from itertools import product
from typing import Any

import pytest
import torch
from expected_targets import EXPECTED
from tiny_models import TINY
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from lightning_lora.inject import Selected, inject_adapter, select
from lightning_lora.inject.budget import matched_ranks, parameter_count, ranks_spending
from lightning_lora.lora import LoraSpec, lora_layers
from lightning_lora.targets import ROLE_SETS


def bert(width: int = 96, layers: int = 2, **settings: Any) -> nn.Module:
    """A BERT of two layers, its feed-forward four times as wide as the rest."""
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return BertForSequenceClassification(BertConfig(vocab_size=50, num_attention_heads=4, **sizes, **settings))


@pytest.mark.parametrize(
    ("like", "rank", "expected"),
    [
        ("all", 20, {"qv": 90, "qkvo": 45, "mlp": 36, "all": 20}),
        ("all", 4, {"qv": 18, "qkvo": 9, "all": 4}),
        ("qv", 18, {"qkvo": 9, "all": 4, "q": 36, "qk": 18}),
    ],
)
def test_square_attention_and_a_feed_forward_of_four_times_the_width_have_a_closed_form(
    like: str, rank: int, expected: dict[str, int]
) -> None:
    budgets = set()
    for roles, expected_rank in expected.items():
        model = bert()
        report = inject_adapter(
            model,
            LoraSpec(rank),
            roles=ROLE_SETS[roles],
            same_parameters_as=ROLE_SETS[like],
            new_parameters=["classifier.weight"],
        )
        assert {module.rank for module in report.modules} == {expected_rank}
        assert {layer.adapters["default"].scale for _, layer in lora_layers(model)} == {2.0}
        budgets.add(report.totals.adapter)
    assert len(budgets) == 1


def most_even(budget: int, costs: list[int]) -> set[tuple[int, ...]]:
    """Every assignment of ranks from 1 that differ by at most one and spend the budget, by trying all."""
    low = budget // sum(costs)
    tried = product((low, low + 1), repeat=len(costs))
    return {
        ranks for ranks in tried if min(ranks) >= 1 and sum(r * c for r, c in zip(ranks, costs, strict=True)) == budget
    }


def linears(costs: list[int]) -> list[Selected]:
    """Layers of one input feature whose term costs so many parameters per rank."""
    return [Selected(f"l{i}", nn.Linear(1, cost - 1), ("query",), i) for i, cost in enumerate(costs)]


@pytest.mark.parametrize(
    "costs", [[4, 4, 10], [4, 4, 4, 10, 10], [3, 5, 7], [6, 10, 15], [8], [2, 2, 2, 2, 2]], ids=str
)
def test_it_finds_an_exact_assignment_exactly_where_there_is_one(costs: list[int]) -> None:
    chosen = linears(costs)
    exact = 0
    for budget in range(1, 6 * sum(costs)):
        ranks = ranks_spending(budget, chosen)
        possible = most_even(budget, costs)
        assert (tuple(ranks.values()) in possible) if ranks else not possible, budget
        exact += ranks is not None
    assert exact >= 5


def test_what_is_left_over_is_spread_over_sizes_and_depth() -> None:
    """All at the parameters of query and value at rank 8: 32 d a block, of which rank 1 takes 18; 2a + 5b = 14."""
    model = bert(layers=6)
    chosen = select(model, roles=ROLE_SETS["all"])
    ranks = matched_ranks(chosen, select(model, roles=ROLE_SETS["qv"]), 8)
    raised = {selected.name for selected in chosen if ranks[selected.name] == 2}
    attention = [s for s in chosen if s.name in raised and s.parameters_per_rank == 2 * 96]
    assert set(ranks.values()) == {1, 2}
    assert len(attention) / 24 == pytest.approx(14 / 18, abs=0.1)
    assert (len(raised) - len(attention)) / 12 == pytest.approx(14 / 18, abs=0.1)
    by_role = [sum(s.roles == (role,) for s in attention) for role in ("query", "key", "value", "output")]
    assert max(by_role) - min(by_role) <= 1
    assert matched_ranks(chosen, select(model, roles=ROLE_SETS["qv"]), 8) == ranks


@pytest.mark.parametrize("architecture", EXPECTED)
def test_every_architecture_counts_what_it_injects(architecture: str) -> None:
    """Fused and grouped projections and shared blocks included: the budget is the tensors that PyTorch counts."""
    model, reference = TINY[architecture](), TINY[architecture]()
    chosen = select(model, roles=ROLE_SETS["all"])
    layers = select(model, roles=ROLE_SETS["qkvo"])
    rank = next(rank for rank in range(4, 17) if ranks_spending(parameter_count(layers, rank), chosen))
    budget = inject_adapter(reference, LoraSpec(rank), roles=ROLE_SETS["qkvo"]).totals.adapter
    inject_adapter(model, LoraSpec(rank), roles=ROLE_SETS["all"], same_parameters_as=ROLE_SETS["qkvo"])
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == budget


def test_a_given_alpha_is_divided_by_each_layers_own_rank() -> None:
    model = bert(layers=3)
    inject_adapter(model, LoraSpec(8, alpha=12.0), roles=ROLE_SETS["all"], same_parameters_as=ROLE_SETS["qv"])
    scales = {(d.spec.rank, d.scale) for _, layer in lora_layers(model) for d in [layer.adapters["default"]]}
    assert scales == {(1, 12.0), (2, 6.0)}


def test_excluded_layers_leave_their_share_to_the_others() -> None:
    report = inject_adapter(
        bert(), LoraSpec(2), same_parameters_as=ROLE_SETS["qv"], exclude=["layer.0.attention.self.query"], layers=[0]
    )
    assert [module.rank for module in report.modules] == [4]


@pytest.mark.parametrize(
    ("roles", "like", "rank", "said"),
    [
        ("mlp", "qv", 8, r"at rank=8 that is 6,144 adapter parameters.*nearest rank at which they can is 10"),
        ("q", "all", 40, "nearest rank at which they can is 10$"),
        ("all", "q", 1, "nearest rank at which they can is 9"),
    ],
)
def test_what_cannot_be_matched_is_refused(roles: str, like: str, rank: int, said: str) -> None:
    """In units of d per block: 5 does not divide 4 · 8; rank 360 in a layer of 96; 2 is less than rank 1 takes, 18."""
    model = bert()
    with pytest.raises(ValueError, match=said):
        inject_adapter(model, LoraSpec(rank), roles=ROLE_SETS[roles], same_parameters_as=ROLE_SETS[like])
    assert not list(lora_layers(model))


def test_a_mapping_of_specs_is_refused() -> None:
    with pytest.raises(ValueError, match="takes one spec"):
        inject_adapter(bert(), {"x": LoraSpec(1)}, same_parameters_as=ROLE_SETS["qv"])


def test_it_is_deterministic_whatever_torch_has_drawn() -> None:
    first = ranks_spending(1000, linears([4, 4, 6, 6, 10]))
    torch.rand(3)
    assert first == ranks_spending(1000, linears([4, 4, 6, 6, 10]))
    assert first is not None
