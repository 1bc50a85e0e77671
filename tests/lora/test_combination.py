"""Combination of low-rank terms, against dense matrices and `torch.linalg.svd`."""

import itertools

import pytest
import torch
from torch import Tensor

from lightning_lora.lora.combination import (
    METHODS,
    Factors,
    Term,
    concatenation,
    distance,
    linear,
    singular_values,
    svd,
)

OUT, IN = 14, 11


def terms(*ranks: int, weights: tuple[float, ...] = (0.7, -1.3, 2.0)) -> list[Term]:
    return [Term(w, torch.randn(r, IN), torch.randn(OUT, r)) for w, r in zip(weights, ranks, strict=False)]


def dense(summands: list[Term]) -> Tensor:
    total = torch.zeros(OUT, IN, dtype=torch.float64)
    for term in summands:
        total += term.weight * term.B.double() @ term.A.double()
    return total


def product(factors: Factors) -> Tensor:
    return factors.B @ factors.A


RANKS = pytest.mark.parametrize("ranks", [(3,), (1, 1), (2, 4), (3, 3, 2), (8, 8)])  # the last exceeds IN together


@RANKS
def test_concatenation_is_the_sum(ranks: tuple[int, ...]) -> None:
    summands = terms(*ranks)
    found = concatenation(summands)
    assert found.A.shape == (sum(ranks), IN)
    torch.testing.assert_close(product(found), dense(summands))


@RANKS
def test_singular_values_are_those_of_the_dense_sum(ranks: tuple[int, ...]) -> None:
    summands = terms(*ranks)
    expected = torch.linalg.svdvals(dense(summands))
    found = singular_values(summands)
    torch.testing.assert_close(found, expected[: len(found)], rtol=1e-10, atol=1e-12)
    assert float(expected[len(found) :].abs().sum()) < 1e-12


def test_a_cut_keeps_the_zeros_of_outputs_and_inputs_that_no_term_has_to_do_with() -> None:
    for summand in (summands := terms(3, 2)):
        summand.B[:7], summand.A[:, :5] = 0, 0
    cut = svd(summands, 4)
    assert not cut.B[:7].any()
    assert not cut.A[:, :5].any()
    U, S, Vh = torch.linalg.svd(dense(summands))
    torch.testing.assert_close(product(cut), (U[:, :4] * S[:4]) @ Vh[:4])


@RANKS
def test_svd_is_the_truncated_dense_svd_and_reaches_the_bound(ranks: tuple[int, ...]) -> None:
    summands = terms(*ranks)
    U, S, Vh = torch.linalg.svd(dense(summands), full_matrices=False)
    for rank in range(1, min(sum(ranks), IN) + 1):
        found = svd(summands, rank)
        assert found.A.shape == (rank, IN)
        assert found.B.shape == (OUT, rank)
        torch.testing.assert_close(product(found), U[:, :rank] * S[:rank] @ Vh[:rank], rtol=1e-9, atol=1e-10)
        bound = float(S[rank:].square().sum().sqrt())
        assert distance(summands, Term(1.0, found.A, found.B)) == pytest.approx(bound, rel=1e-9, abs=1e-10)
        torch.testing.assert_close(found.A.norm(dim=1), found.B.norm(dim=0))  # both carry the root of S


def test_no_other_term_of_the_rank_is_nearer() -> None:
    """Gradient descent from the truncation, and from elsewhere, ends no nearer than the bound."""
    summands = terms(3, 3)
    target, best = dense(summands), svd(summands, 2)
    bound = float((target - product(best)).norm())
    for start in (best, Factors(torch.randn(2, IN).double(), torch.randn(OUT, 2).double())):
        A, B = start.A.clone().requires_grad_(), start.B.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([A, B], max_iter=200, line_search_fn="strong_wolfe")

        def closure(A: Tensor = A, B: Tensor = B, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (target - B @ A).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert float((target - B @ A).detach().norm()) >= bound * (1 - 1e-9)


def test_linear_is_weighted_for_one_term_and_has_cross_terms_for_two() -> None:
    first, second = terms(3, 3)
    torch.testing.assert_close(product(linear([first])), dense([first]))
    torch.testing.assert_close(product(linear([second])), dense([second]))
    expected = dense([first, second])
    for (one, other), sign in zip(itertools.permutations((first, second)), (-1, 1), strict=True):
        weight = abs(one.weight * other.weight) ** 0.5
        expected = expected + sign * weight * one.B.double() @ other.A.double()
    torch.testing.assert_close(product(linear([first, second])), expected)
    assert distance([first, second], Term(1.0, *vars(linear([first, second])).values())) > 1


def test_linear_needs_one_rank() -> None:
    with pytest.raises(ValueError, match=r"these have ranks \[2, 3\]; use 'svd'"):
        linear(terms(2, 3))


@pytest.mark.parametrize("method", METHODS)
def test_the_distance_is_the_dense_frobenius_norm(method: str) -> None:
    summands = terms(3, 3)
    found = METHODS[method](summands, 2)
    expected = float((dense(summands) - product(found)).norm())
    assert distance(summands, Term(1.0, found.A, found.B)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_terms_that_cancel_leave_nothing() -> None:
    (term,) = terms(3, weights=(1.0,))
    found = svd([term, Term(-1.0, term.A, term.B)], 2)
    assert float(product(found).norm()) < 1e-12
