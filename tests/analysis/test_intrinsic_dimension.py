"""Lifts against SciPy's Hadamard matrices and derived variances; the subspace against autograd; the search by hand."""

import math
from collections.abc import Sequence
from statistics import stdev

import pytest
import torch
from scipy import linalg, stats
from tiny_models import TINY
from torch import Tensor, nn

from lightning_lora.analysis import (
    DenseLift,
    FastfoodLift,
    RandomSubspace,
    Trial,
    smallest_reaching,
    walsh_hadamard,
)

LIFTS = [DenseLift, FastfoodLift]
HEAD = ["classifier.weight", "classifier.bias"]


def matrix(lift: nn.Module, dimension: int) -> Tensor:
    """P in fp64, column by column."""
    return torch.stack([lift(unit) for unit in torch.eye(dimension)], dim=1).double()


@pytest.mark.parametrize("n", [1, 2, 32, 64, 128, 4096])
def test_the_transform_is_a_product_with_scipys_matrix(n: int) -> None:
    x = torch.randn(3, 2, n, dtype=torch.float64)
    expected = x @ torch.from_numpy(linalg.hadamard(n)).double()
    # Sums of n numbers, in another order.
    torch.testing.assert_close(walsh_hadamard(x), expected, rtol=1e-12, atol=n * 1e-15 * float(x.abs().max()))


@pytest.mark.parametrize("n", [0, 3, 96])
def test_other_lengths_have_no_transform(n: int) -> None:
    with pytest.raises(ValueError, match=f"power of two of rows, not {n}"):
        walsh_hadamard(torch.zeros(2, n))


def test_fastfood_is_the_product_of_its_five_matrices() -> None:
    """Formed one by one from what was drawn, for 3 blocks of 8 rows, of which 19 are kept."""
    lift = FastfoodLift(5, 19, seed=3)
    H = torch.from_numpy(linalg.hadamard(8)).double()
    blocks = []
    for signs, order, gaussian in zip(lift.signs, lift.order, lift.gaussian, strict=True):
        permutation = torch.eye(8, dtype=torch.float64)[order]
        blocks.append(H @ torch.diag(gaussian.double()) @ permutation @ H @ torch.diag(signs.double()))
    torch.testing.assert_close(matrix(lift, 5), torch.cat(blocks)[:19, :5], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lift_class", LIFTS)
@pytest.mark.parametrize(("dimension", "parameters"), [(1, 500), (8, 512), (200, 1024), (512, 512)])
def test_columns_are_unit_vectors(lift_class: type[nn.Module], dimension: int, parameters: int) -> None:
    """The sizes are whole blocks. fp32: sums of `parameters` squares, each off by a few roundings."""
    lengths = matrix(lift_class(dimension, parameters), dimension).norm(dim=0)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("dimension", "parameters"), [(300, 700), (100, 101)])
def test_of_a_block_cut_off_columns_are_unit_vectors_on_average(dimension: int, parameters: int) -> None:
    squares = torch.stack([matrix(FastfoodLift(dimension, parameters, seed), 1)[:, 0] for seed in range(400)])
    squares = squares.square().sum(dim=1)
    assert abs(float(squares.mean()) - 1) < 4 * float(squares.std()) / 20
    # A sum of D squares of normal numbers over its mean, or less varied, since the whole is held fixed.
    assert 0 < float(squares.std()) < math.sqrt(2 / parameters) * 1.2


@pytest.mark.parametrize("lift_class", LIFTS)
@pytest.mark.parametrize(("dimension", "parameters"), [(2, 256), (64, 256), (256, 256)])
def test_cosines_vary_as_derived(lift_class: type[nn.Module], dimension: int, parameters: int) -> None:
    """One pair of columns of each of 400 draws: independent cosines of the derived variance."""
    draws = 400
    lifts = [lift_class(dimension, parameters, seed) for seed in range(draws)]
    units = torch.eye(dimension)[[0, dimension - 1]]
    cosines = [float(lift(units[0]).double() @ lift(units[1]).double()) for lift in lifts]
    derived = float(lifts[0].cosine_std)
    assert abs(sum(cosines)) < 4 * derived * math.sqrt(draws)
    low, high = stats.chi2.ppf([0.0005, 0.9995], draws) / draws
    assert low < sum(cosine**2 for cosine in cosines) / draws / derived**2 < high
    other = {DenseLift: math.sqrt(2 / parameters), FastfoodLift: 1 / math.sqrt(parameters)}[lift_class]
    assert not low < sum(cosine**2 for cosine in cosines) / draws / other**2 < high, "the control"


def test_fastfoods_cosines_are_the_same_for_like_differences_of_bits() -> None:
    """Of one block; another has other signs, and the sums of several are not alike."""
    P = matrix(FastfoodLift(8, 8), 8)
    gram = (P.T @ P).abs()
    torch.testing.assert_close(gram[0, 3], gram[4, 7], rtol=0, atol=1e-6)
    assert abs(float(gram[0, 3] - gram[0, 5])) > 1e-3, "the control"


@pytest.mark.parametrize("lift_class", LIFTS)
def test_a_seed_gives_the_same_and_leaves_the_global_one(lift_class: type[nn.Module]) -> None:
    delta = torch.randn(7)
    state = torch.get_rng_state()
    first, again, other = (lift_class(7, 100, seed)(delta) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_fastfood_takes_memory_by_the_parameters_and_dense_by_both() -> None:
    for dimension in (1, 100, 5000):
        numbers = sum(buffer.numel() for buffer in FastfoodLift(dimension, 10_000).buffers())
        assert 3 * 10_000 <= numbers < 3 * (10_000 + 2 * dimension), "three numbers a row, whole blocks of up to 2 d"
    assert DenseLift(100, 10_000).P.numel() == 100 * 10_000


@pytest.mark.parametrize("lift_class", LIFTS)
@pytest.mark.parametrize("dimension", [0, 11])
def test_a_dimension_outside_its_range_is_refused(lift_class: type[nn.Module], dimension: int) -> None:
    with pytest.raises(ValueError, match=f"dimension={dimension} must be from 1 to the 10 parameters"):
        lift_class(dimension, 10)


def tiny() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    return TINY["bert"]().eval(), {"input_ids": torch.randint(5, 50, (3, 7))}


@pytest.mark.parametrize("lift_class", LIFTS)
def test_the_gradient_of_delta_is_the_lift_transposed_of_the_models(lift_class: type[nn.Module]) -> None:
    """Autograd in the whole model at θ0 + P δ, for δ not 0, against the gradient through the subspace."""
    model, batch = tiny()
    subspace = RandomSubspace(model, 6, outside=HEAD, lift=lift_class)
    with torch.no_grad():
        subspace.delta.normal_(std=0.3)
    subspace(**batch).logits.square().sum().backward()
    whole, _ = tiny()
    with torch.no_grad():
        for name, value in subspace.parameters_in_place().items():
            whole.get_parameter(name).copy_(value)
    whole(**batch).logits.square().sum().backward()
    gradients = [whole.get_parameter(name).grad for name in subspace.lifted]
    flat = torch.cat([g.flatten() for g in gradients if g is not None])
    expected = matrix(subspace.lift, 6).T @ flat.double()
    assert subspace.delta.grad is not None
    torch.testing.assert_close(subspace.delta.grad.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.norm()))
    for name in HEAD:
        torch.testing.assert_close(model.get_parameter(name).grad, whole.get_parameter(name).grad)
    assert all(model.get_parameter(name).grad is None for name in subspace.lifted)


@pytest.mark.parametrize("layer_scales", [False, True])
def test_it_starts_as_the_model_is_and_trains_so_many_numbers(layer_scales: bool) -> None:
    model, batch = tiny()
    before = model(**batch).logits
    subspace = RandomSubspace(model, 20, outside=HEAD, layer_scales=layer_scales)
    assert torch.equal(subspace(**batch).logits, before)
    trains = {name: p.numel() for name, p in subspace.named_parameters() if p.requires_grad}
    head = sum(model.get_parameter(name).numel() for name in HEAD)
    assert sum(trains.values()) == 20 + head
    assert ("scales" in trains) == layer_scales
    assert set(subspace.lifted) | set(HEAD) == {name for name, _ in model.named_parameters()}


def test_a_scale_scales_its_layer_alone() -> None:
    model, _ = tiny()
    subspace = RandomSubspace(model, 20, outside=HEAD, layer_scales=True)
    assert subspace.scales is not None
    layers = ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "bert.pooler"]
    assert len(subspace.scales) == len(layers)
    with torch.no_grad():
        subspace.delta.normal_()
        one = subspace.parameters_in_place()
        subspace.scales[1] = 3.0
        three = subspace.parameters_in_place()
    for name in subspace.lifted:
        start, factor = model.get_parameter(name), 3.0 if name.startswith(layers[1]) else 1.0
        torch.testing.assert_close(three[name] - start, factor * (one[name] - start), rtol=1e-3, atol=1e-6)


def test_training_moves_only_within_the_subspace() -> None:
    """A step of SGD moves θ by −lr P Pᵀ g, to first order none else; here to rounding, as δ starts at 0."""
    model, batch = tiny()
    subspace = RandomSubspace(model, 4, outside=HEAD, lift=DenseLift)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    subspace(**batch).logits.square().sum().backward()
    torch.optim.SGD([p for p in subspace.parameters() if p.requires_grad], lr=0.1).step()
    moved = torch.cat([(v - start[n]).flatten() for n, v in subspace.parameters_in_place().items()]).double().detach()
    P = matrix(subspace.lift, 4)
    residual = moved - P @ torch.linalg.lstsq(P, moved[:, None]).solution[:, 0]
    assert float(moved.norm()) > 0
    # θ0 + P δ is rounded to fp32 entry by entry.
    rounding = sum(float(value.double().square().sum()) for value in start.values()) ** 0.5 * 2**-23
    assert float(residual.norm()) < 4 * rounding


def test_names_and_dimensions_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="'heads' is not a parameter of"):
        RandomSubspace(tiny()[0], 6, outside=["heads"])
    with pytest.raises(ValueError, match="dimension=4 must be above 4"):
        RandomSubspace(tiny()[0], 4, outside=HEAD, layer_scales=True)


def test_a_tied_parameter_may_be_left_outside_by_any_of_its_names() -> None:
    model = nn.ModuleDict({"embedding": nn.Linear(3, 5, bias=False), "decoder": nn.Linear(3, 5)})
    model["decoder"].weight = model["embedding"].weight
    subspace = RandomSubspace(model, 2, outside=["decoder.weight"])
    assert subspace.lifted == ("decoder.bias",)
    assert model["embedding"].weight.requires_grad


def test_a_trial_has_the_mean_and_the_standard_error_of_its_scores() -> None:
    scores = (0.7, 0.8, 0.75, 0.9)
    trial = Trial(3, scores)
    assert trial.mean == pytest.approx(0.7875)
    assert trial.standard_error == pytest.approx(stdev(scores) / 2)
    assert math.isnan(Trial(3, (0.7,)).standard_error)


def test_the_search_finds_the_first_that_reaches() -> None:
    """Against trying every size; and a grid of 16 costs at most five of them."""
    grid = [2**i for i in range(16)]
    for threshold in [0.0, *[i / 16 + 0.01 for i in range(15)]]:
        tried: list[int] = []

        def scores(size: int, tried: list[int] = tried) -> Sequence[float]:
            tried.append(size)
            return [grid.index(size) / 16] * 2

        found = smallest_reaching(scores, threshold, grid)
        first = next(size for size in grid if grid.index(size) / 16 >= threshold)
        assert found.size == first == found.surely_reached
        assert found.surely_below == (first // 2 or None), "scores without spread leave nothing open"
        assert len(tried) <= 5
    assert smallest_reaching(lambda size: [0.5], 0.6, grid).size is None


def test_spread_leaves_a_bracket_open_and_a_single_seed_leaves_all() -> None:
    """Scores size/10 ± 0.1, a standard error of 0.1; of 1 to 9 the search tries 5 and 8, and then 7 or 6."""

    def scores(size: int) -> Sequence[float]:
        return [size / 10 - 0.1, size / 10 + 0.1]

    low, high = (smallest_reaching(scores, threshold, range(1, 10)) for threshold in (0.55, 0.75))
    assert (low.size, low.surely_below, low.surely_reached) == (6, None, 8)
    assert (high.size, high.surely_below, high.surely_reached) == (8, 5, None)
    alone = smallest_reaching(lambda size: [size / 10], 0.55, range(1, 10))
    assert (alone.size, alone.surely_below, alone.surely_reached) == (6, None, None)
