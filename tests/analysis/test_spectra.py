"""Spectra of adapters, against dense singular values, SciPy's entropy, numbers by hand and a published adapter."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from tiny_models import TINY
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_lora.adapters_io import load_peft_folder, save_peft_folder
from lightning_lora.analysis import (
    ENERGY,
    Spectrum,
    energy_rank,
    entropy_rank,
    proposed_ranks,
    spectra,
    stable_rank,
)
from lightning_lora.inject import compress_adapter, inject_adapter, merged
from lightning_lora.lora import LoraSpec, LowRankDelta, adapter_parameters, lora_layers
from lightning_lora.lora.combination import Term, singular_values
from lightning_lora.targets import ROLE_SETS

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "loralib" / "roberta_base_lora_mnli.bin"
# Microsoft's MNLI adapter of RoBERTa-base, rank 8, scale 16 / 8: singular values of two of its 24 ΔW.
PUBLISHED_VALUES = {
    "11.attention.self.query": (12.7325, 1.04737, 0.175299, 0.0811429, 0.0638398, 0.031782, 0.0232068, 0.0157627),
    "0.attention.self.value": (2.77239, 2.55253, 1.93086, 1.71818, 1.50027, 1.39181, 1.23076, 1.08495),
}
VALUES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12).map(lambda values: sorted(values, reverse=True))


def adapted(architecture: str, rank: int = 3, roles: str = "all") -> Any:
    """A tiny model with random factors, whose columns of B fall off faster in some layers than in others."""
    model = TINY[architecture]()
    inject_adapter(model, LoraSpec(rank=rank, alpha=5.0), roles=ROLE_SETS[roles])
    for number, (_, layer) in enumerate(lora_layers(model)):
        B = layer.adapters["default"].B
        B.data = torch.randn(B.shape) * (0.4 + 0.2 * (number % 4)) ** torch.arange(rank)
    return model


def parts_of(matrix: Tensor, delta: LowRankDelta) -> list[Tensor]:
    """The rows of each adapted part of an (out, in) matrix."""
    layout = delta.layout
    by_part = matrix.reshape(layout.groups, layout.parts, -1, matrix.shape[1])
    return [by_part[:, part].flatten(0, 1) for part in layout.adapted]


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "gpt_neox", "llama", "modernbert", "t5"])
def test_they_are_those_of_the_dense_update_and_weight(architecture: str) -> None:
    model = adapted(architecture)
    found = iter(spectra(model))
    for name, layer in lora_layers(model):
        delta = layer.adapters["default"]
        assert isinstance(delta, LowRankDelta)
        weight = layer.weight.T if layer.weight_is_in_by_out else layer.weight
        for dense, base in zip(parts_of(delta.weight(), delta), parts_of(weight, delta), strict=True):
            spectrum = next(found)
            expected = torch.linalg.svdvals(dense)[:3]
            assert spectrum.module == name
            assert spectrum.rank == 3
            # fp64 throughout: an error of some units of 2^-53 of the largest value.
            assert spectrum.singular_values == pytest.approx(
                expected.tolist(), rel=1e-12, abs=1e-14 * float(expected[0])
            )
            assert spectrum.norm == pytest.approx(float(dense.norm()), rel=1e-12)
            assert spectrum.base_norm == pytest.approx(float(base.norm()), rel=1e-6)
            assert spectrum.relative_norm == pytest.approx(float(dense.norm() / base.norm()), rel=1e-6)
            assert spectrum.parameters == sum(dense.shape)
    assert next(found, None) is None


@pytest.mark.parametrize(
    ("architecture", "first"),
    [("bert", (0, "query")), ("gpt_neox", (0, "query")), ("llama", (0, "query")), ("t5", (0, "query"))],
)
def test_each_is_named_by_block_and_role(architecture: str, first: tuple[int, str]) -> None:
    found = spectra(adapted(architecture))
    assert (found[0].block, found[0].role) == first
    assert {one.role for one in found} <= {role.value for role in ROLE_SETS["all"]}
    assert {one.block for one in found} >= {0, 1}


def test_a_layer_that_no_table_knows_has_the_end_of_its_name() -> None:
    model = TINY["bert"]()
    inject_adapter(model, LoraSpec(rank=2), modules=["pooler.dense"])
    (found,) = spectra(model)
    assert (found.block, found.role, found.singular_values) == (None, "dense", (0.0, 0.0))


def test_a_fused_layer_that_is_adapted_whole_has_all_its_roles() -> None:
    model = TINY["gpt2"]()
    inject_adapter(model, LoraSpec(rank=2), modules=["attn.c_attn"])
    assert {one.role for one in spectra(model)} == {"query+key+value"}


@pytest.mark.parametrize("roles", ["v", "qv", "qkvo"])
@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "deberta", "modernbert", "llama"])
def test_a_fused_layer_that_comes_back_as_one_matrix_has_the_parameters_that_were_trained(
    architecture: str, roles: str, tmp_path: Path
) -> None:
    model, base = adapted(architecture, roles=roles), TINY[architecture]()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    save_peft_folder(model, tmp_path / "adapter", base_name="base")
    load_peft_folder(base, tmp_path / "adapter")
    found = spectra(base)
    assert sum(one.size for one in spectra(model)) == sum(one.size for one in found) == trained
    stored = sum(p.numel() for _, p in adapter_parameters(base))
    assert (stored > trained) == (architecture != "llama"), "the control: what is stored has zeros beside them"
    compress_adapter(base, "default", 2, "cut")
    cut = sum(int(p.count_nonzero()) for _, p in adapter_parameters(base, "cut"))
    assert sum(2 * one.parameters for one in found) == sum(one.size for one in spectra(base, "cut")) == cut


def test_counts_by_hand() -> None:
    values = (4.0, 3.0)  # of the energy, 16/25 and 9/25
    assert stable_rank(values) == pytest.approx(25 / 16)
    assert entropy_rank(values) == pytest.approx((25 / 16) ** (16 / 25) * (25 / 9) ** (9 / 25))
    assert [energy_rank(values, share) for share in (0.63, 0.64, 0.65, 1.0)] == [1, 1, 2, 2]
    assert ENERGY == 0.9


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_equal_values_count_in_full_whatever_their_size(count: int, size: float) -> None:
    values = (size,) * count
    assert stable_rank(values) == pytest.approx(count)
    assert entropy_rank(values) == pytest.approx(count)
    assert energy_rank(values, 1.0) == count
    assert energy_rank((*values, 1e-9 * size), 1.0 - 1e-11) == count


def test_zero_uses_no_direction_and_keeps_rank_one() -> None:
    zero = Spectrum("a", 0, "query", 4, (0.0,) * 4, 1.0, 8, 32)
    assert zero.figures() == dict.fromkeys(("entropy_rank", "stable_rank", "energy_90_rank", "relative_norm"), 0.0)
    assert proposed_ranks([zero]) == {"a": 1}


@given(VALUES)
def test_the_counts_are_in_order_and_the_entropy_is_scipys(values: list[float]) -> None:
    assert 1 <= stable_rank(values) <= entropy_rank(values) * (1 + 1e-12) <= len(values) * (1 + 2e-12)
    assert entropy_rank(values) == pytest.approx(math.exp(entropy([value**2 for value in values])), rel=1e-9)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        energy_rank((1.0,), share)


class LargestMade(TorchDispatchMode):
    """The most elements of any tensor that an operation has made, views of others left out."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.elements = max(self.elements, leaf.numel())
        return made


def test_nothing_of_the_size_of_a_weight_is_made() -> None:
    width, rank = 300, 4
    model = nn.Sequential(nn.Linear(width, width))
    inject_adapter(model, LoraSpec(rank=rank), modules=["0"])
    with LargestMade() as small:
        spectra(model)
    assert small.elements == width * rank
    with LargestMade() as dense:
        model[0].adapters["default"].weight()
    assert dense.elements == width * width, "the control"


def test_the_published_adapter_of_roberta() -> None:
    query, value = PUBLISHED_VALUES.values()
    if PUBLISHED.parent.is_dir():
        content = torch.load(PUBLISHED, map_location="cpu", weights_only=True)
        for name, expected in PUBLISHED_VALUES.items():
            A, B = (content[f"roberta.encoder.layer.{name}.lora_{factor}"] for factor in "AB")
            assert singular_values([Term(2.0, A, B)]).tolist() == pytest.approx(expected, rel=1e-5)
    assert entropy_rank(query) == pytest.approx(1.04, abs=0.005)
    assert entropy_rank(value) == pytest.approx(6.59, abs=0.005)
    assert (energy_rank(query), energy_rank(value)) == (1, 6)
    # Roy and Vetterli's, of σ itself: larger, and no bound on what the other two count.
    of_values = [math.exp(entropy(values)) for values in (query, value)]
    assert of_values == pytest.approx([1.54, 7.61], abs=0.005)


def test_ranks_that_keep_a_share_keep_it_together() -> None:
    model = adapted("gpt_neox", rank=6)
    found = spectra(model)
    for share in (0.5, 0.9, 0.99):
        ranks = proposed_ranks(found, share)
        report = compress_adapter(model, "default", ranks, f"kept_{int(100 * share)}")
        assert {layer.name: layer.rank for layer in report.layers} == ranks
        assert len(set(ranks.values())) > 1, "they differ by layer"
        assert (report.error / report.norm) ** 2 <= 1 - share + 1e-9
        assert report.error == pytest.approx(report.bound, rel=1e-5)
        one_less = {name: max(rank - 1, 1) for name, rank in ranks.items()}
        less = compress_adapter(model, "default", one_less, f"less_{int(100 * share)}")
        assert any((layer.error / layer.norm) ** 2 > 1 - share for layer in less.layers), "the control"


def test_a_merged_model_and_an_unknown_adapter_are_refused() -> None:
    model = adapted("bert")
    with merged(model), pytest.raises(RuntimeError, match="'default' is merged"):
        spectra(model)
    with pytest.raises(ValueError, match="no adapter named 'other'"):
        spectra(model, "other")
