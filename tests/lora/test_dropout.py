"""The cheap dropout drops with the probability asked for, independently, and with the same mask in backward."""

import math

import pytest
import torch
from scipy.stats import binomtest, chi2_contingency, chisquare
from tiny_models import TINY
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_lora.lora import (
    Dropout,
    draw_seed,
    drop,
    kept_elements,
    kept_factor,
    use_cheap_dropout,
    where_kept,
)

ELEMENTS = 1 << 20


@pytest.mark.parametrize("p", [0.1, 0.5, 0.013, 0.9])
def test_each_element_is_dropped_with_the_probability_asked_for(p: float) -> None:
    kept = kept_elements((ELEMENTS,), p, seed=5)
    assert kept.unique().tolist() == [0, 1]
    assert drop(torch.ones(ELEMENTS), p).unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-6)
    dropped = int((kept == 0).sum())
    assert binomtest(dropped, ELEMENTS, p).pvalue > 1e-3
    assert binomtest(dropped, ELEMENTS, p * 1.05).pvalue < 1e-3, "the test can see five percent"


def test_a_probability_finer_than_the_levels_is_met_on_average() -> None:
    """Half of a level: one tensor drops at one level or at none, and the tensors together at half a level."""
    p, tensors = 2.0**-22, 1000
    counts = torch.tensor([float((kept_elements((1 << 21,), p, seed) == 0).sum()) for seed in range(tensors)])
    # A tensor's count is 0 or about Poisson(1), with even odds: mean 1/2, variance 3/4.
    assert abs(float(counts.mean()) - 0.5) < 4 * math.sqrt(0.75 / tensors)


def test_every_element_has_its_turn_where_half_of_them_have_no_byte_to_be_dropped_by() -> None:
    """p · 256 = 1/2: in one tensor, half of the places have the threshold 0, which no byte is below."""
    p, tensors, elements = 2.0**-9, 20_000, 64
    dropped = sum((kept_elements((elements,), p, seed) == 0).long() for seed in range(tensors))
    assert isinstance(dropped, torch.Tensor)
    assert chisquare(dropped.numpy()).pvalue > 1e-3
    assert binomtest(int(dropped.sum()), tensors * elements, p).pvalue > 1e-3


def test_how_many_are_dropped_varies_as_if_all_were_independent() -> None:
    p, tensors, elements = 0.1, 2000, 1 << 15
    counts = torch.tensor([float((kept_elements((elements,), p, seed) == 0).sum()) for seed in range(tensors)])
    independent = elements * p * (1 - p)
    # With 25 or 26 of 256 for all elements of a tensor, in the odds that make 25.6, it would vary twice as much.
    of_one_threshold = independent + elements**2 * 0.24 / 256**2
    ratio = float(counts.var()) / independent
    assert abs(ratio - 1) < 4 * math.sqrt(2 / tensors) < of_one_threshold / independent - 1


@pytest.mark.parametrize("distance", [1, 2, 7, 8, 64, 384, 768, 1536, 8192])
def test_elements_are_dropped_independently(distance: int) -> None:
    """Also with bytes from one word, above one another in rows of a usual width, or a period apart."""
    dropped = (kept_elements((ELEMENTS,), 0.2, seed=3) == 0).long()
    pairs = torch.bincount(dropped[:-distance] * 2 + dropped[distance:], minlength=4).view(2, 2)
    assert chi2_contingency(pairs.numpy()).pvalue > 1e-3


def test_every_value_of_the_bytes_is_as_likely() -> None:
    """A byte below 128 is as many as there are probabilities of k / 256 at which its element is kept."""
    kept = torch.stack([kept_elements((1 << 18,), k / 256, seed=11) for k in range(1, 129)])
    counts = torch.bincount(kept.long().sum(0), minlength=129)
    expected = [kept.shape[1] / 256] * 128 + [kept.shape[1] / 2]
    assert chisquare(counts.numpy(), expected).pvalue > 1e-3
    counts[3], counts[4] = counts[3] + 256, counts[4] - 256
    assert chisquare(counts.numpy(), expected).pvalue < 1e-3, "the test can see it"


def test_seeds_are_independent_and_the_same_seed_is_the_same_mask() -> None:
    masks = 2.0 * torch.stack([kept_elements((1 << 14,), 0.5, seed) for seed in range(64)]) - 1
    agreement = (masks @ masks.T / masks.shape[1]).fill_diagonal_(0)
    assert agreement.abs().max() < 5 / math.sqrt(masks.shape[1])
    assert torch.equal(kept_elements((3, 5), 0.5, 7), kept_elements((15,), 0.5, 7).view(3, 5))


def sfc64(seed: int, words: int) -> list[int]:
    """C. Doty-Humphrey's generator written out: all three words of state are the seed, twelve outputs are discarded."""
    a = b = c = seed % 2**64
    found = []
    for counter in range(1, 12 + words + 1):
        found.append((a + b + counter) % 2**64)
        a, b, c = b ^ (b >> 11), (c + (c << 3)) % 2**64, (((c << 24) | (c >> 40)) + found[-1]) % 2**64
    return found[12:]


@pytest.mark.parametrize("seed", [0, 1, -5, 2**63 - 1])
def test_the_bits_are_those_of_the_published_generator(seed: int) -> None:
    """The first word rounds 0.1 · 2^21, the second says where the period begins; of each other come eight."""
    first, second, *words = sfc64(seed, 2 + 100)
    drawn = [(word >> shift) % 2**8 for word in words for shift in range(0, 64, 8)]
    below, places_above = divmod(209715 + (first < 0.2 * 2**64), 2**13)
    in_order = sorted(range(2**13), key=sfc64(0, 2**13).__getitem__)
    thresholds = [below + (in_order[(second + place) % 2**13] < places_above) for place in range(800)]
    assert set(thresholds) == {25, 26}
    assert kept_elements((800,), 0.1, seed).tolist() == [int(b >= t) for b, t in zip(drawn, thresholds, strict=True)]
    assert kept_elements((800,), 0.9, seed).tolist() == [int(b < t) for b, t in zip(drawn, thresholds, strict=True)]


def test_neighbouring_seeds_are_unrelated_from_the_first_element_on() -> None:
    masks = torch.stack([kept_elements((8,), 0.5, seed) for seed in range(4096)]).long()
    for element in range(8):
        pairs = torch.bincount(masks[::2, element] * 2 + masks[1::2, element], minlength=4)
        assert chisquare(pairs.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_backward_goes_through_the_mask_of_forward(dtype: torch.dtype) -> None:
    x = torch.randn(37, 11, dtype=dtype, requires_grad=True)
    torch.manual_seed(4)
    dropped = drop(x, 0.3)
    torch.manual_seed(4)
    kept = kept_elements(x.shape, 0.3, draw_seed())
    gradient = torch.randn_like(x)
    dropped.backward(gradient)
    assert torch.equal(dropped, x * kept * kept_factor(0.3))
    assert x.grad is not None
    assert torch.equal(x.grad, gradient * kept * kept_factor(0.3))
    assert 0 < int((kept == 0).sum()) < kept.numel()


def test_a_gradient_can_be_differentiated_again() -> None:
    def dropped(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)
        return drop(x, 0.3)

    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(dropped, x)
    # Of (d ∘ x)² summed, d = 0 or 1 / 0.7, the first derivative's sum has the derivative 2 d² in each place.
    (first,) = torch.autograd.grad(dropped(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, 2 * dropped(torch.ones_like(x)).square())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_kept_keeps_its_bits_and_the_rest_is_zero(dtype: torch.dtype) -> None:
    """Of rows that lie apart in memory, and of numbers that are none, which times 0 would not be zero."""
    x = torch.randn(37, 22, dtype=dtype)[:, ::2]
    x[::5, 3], x[::7, 4] = torch.inf, torch.nan
    kept = kept_elements(x.shape, 0.3, seed=6)
    found = where_kept(x, kept)
    assert found.dtype == dtype
    assert torch.equal(found[kept == 1].nan_to_num(7.0), x[kept == 1].nan_to_num(7.0))
    assert found[kept == 0].abs().max() == 0 < int((kept == 0).sum())
    assert (x * kept)[kept == 0].isnan().any()


def test_the_mask_is_not_kept_for_backward() -> None:
    kept: list[torch.Size] = []
    x = torch.randn(64, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        drop(x, 0.5)
        assert kept == []
        nn.functional.dropout(x, 0.5)
        assert kept, "torch's own keeps one"


def test_checkpointing_draws_the_same_mask_again() -> None:
    layer, x = Dropout(0.5), torch.randn(100, requires_grad=True)
    torch.manual_seed(1)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    assert x.grad is not None
    torch.manual_seed(1)
    assert torch.equal(x.grad, layer(torch.ones(100)))


def test_off_it_is_nothing_and_at_one_it_leaves_nothing() -> None:
    x = torch.randn(5)
    assert drop(x, 0.0) is x
    assert drop(x, 0.5, training=False) is x
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(drop(x, 1.0), torch.zeros(5))
    assert kept_elements((0, 4), 0.5, 1).shape == (0, 4)


def test_a_model_gets_it_everywhere_and_keeps_its_state() -> None:
    model = TINY["bert"]().eval()
    keys, before = list(model.state_dict()), sum(type(module) is nn.Dropout for module in model.modules())
    model.bert.encoder.train()
    use_cheap_dropout(model)
    found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert len(found) == before > 0
    assert all(type(module) is Dropout for module in found)
    assert {module.training for module in model.bert.encoder.modules()} == {True}
    assert not model.dropout.training
    assert list(model.state_dict()) == keys
