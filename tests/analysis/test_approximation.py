"""The bound of Eckart and Young: an equality for the best term, below every other one, whatever the scale."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_lora.analysis import balanced_factors, energy_kept, least_error

# Sums of a few hundred products, relative to the matrix's norm.
ROUNDING = 1e3 * torch.finfo(torch.float64).eps


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("rows", "columns"), [(12, 7), (7, 12), (9, 9)])
@pytest.mark.parametrize("rank", [1, 3, 7])
@pytest.mark.parametrize("scale", [0.25, 1.0, 2.0])
def test_the_best_term_attains_the_bound(rows: int, columns: int, rank: int, scale: float) -> None:
    M = matrix(rows, columns)
    best = balanced_factors(M, rank, scale)
    error = torch.linalg.matrix_norm(M - scale * best.B @ best.A)
    tail = math.sqrt(sum(value**2 for value in scipy.linalg.svdvals(M.numpy())[rank:]))  # SciPy's, as an oracle
    assert float(error) == pytest.approx(tail, abs=ROUNDING * float(M.norm()))
    assert least_error(torch.linalg.svdvals(M), rank) == pytest.approx(tail, abs=ROUNDING * float(M.norm()))
    assert best.A.shape == (rank, columns)
    assert best.B.shape == (rows, rank)


def test_the_scale_must_be_absorbed() -> None:
    """The document's factors with alpha / r = 2 before them: far from the bound."""
    M = matrix(12, 7)
    best = balanced_factors(M, 3)
    bound = least_error(torch.linalg.svdvals(M), 3)
    assert float((M - 2 * best.B @ best.A).norm()) > 1.5 * bound


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_no_term_is_below_the_bound(rank: int, seed: int) -> None:
    """Also not one whose B is the best for its A, by least squares."""
    M, A = matrix(8, 6, seed), matrix(rank, 6, seed + 1)
    B = torch.linalg.lstsq(A.T, M.T).solution.T
    bound = least_error(torch.linalg.svdvals(M), rank)
    assert float((M - B @ A).norm()) >= bound - ROUNDING * float(M.norm())


def test_the_factors_are_balanced_and_any_change_of_basis_is_as_good() -> None:
    M = matrix(10, 8)
    best = balanced_factors(M, 4, scale=0.5)
    torch.testing.assert_close(best.B.T @ best.B, best.A @ best.A.T, rtol=0, atol=ROUNDING * float(M.norm()))
    # 2 · the nuclear norm of B A is the least that ||A||² + ||B||² can be (Srebro et al. 2004, lemma 1).
    least = 2 * scipy.linalg.svdvals((best.B @ best.A).numpy()).sum()
    R = matrix(4, 4, seed=5)
    other_B, other_A = best.B @ R, torch.linalg.solve(R, best.A)
    torch.testing.assert_close(other_B @ other_A, best.B @ best.A, rtol=0, atol=1e-10)
    assert float(best.A.square().sum() + best.B.square().sum()) == pytest.approx(least, rel=1e-12)
    assert float(other_A.square().sum() + other_B.square().sum()) > 1.01 * least


def test_a_term_of_enough_rank_is_the_matrix() -> None:
    low = matrix(9, 2) @ matrix(2, 7)
    assert least_error(torch.linalg.svdvals(low), 2) < ROUNDING * float(low.norm())
    full = balanced_factors(matrix(5, 7), 50)
    torch.testing.assert_close(full.B @ full.A, matrix(5, 7), rtol=0, atol=1e-13)


def test_energy_by_hand() -> None:
    assert energy_kept(torch.tensor([2.0, 1.0, 0.0])).tolist() == pytest.approx([0.8, 1.0, 1.0])
    values = torch.from_numpy(np.linalg.svd(matrix(6, 9).numpy(), compute_uv=False))
    kept = energy_kept(values)
    errors = torch.tensor([least_error(values, rank) for rank in range(1, 7)], dtype=torch.float64)
    torch.testing.assert_close(1 - kept, errors.square() / values.square().sum(), rtol=0, atol=1e-14)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale=0\.0"):
        balanced_factors(matrix(3, 3), 1, scale=0.0)
    with pytest.raises(ValueError, match="rank=0"):
        balanced_factors(matrix(3, 3), 0)
    with pytest.raises(ValueError, match="matrix is zero"):
        energy_kept(torch.zeros(4))
