"""How near a term of rank r can come to a given matrix, and how much of the matrix it then holds.

The best ``X`` of rank r for a matrix M with singular values ``σ_1 ≥ σ_2 ≥ …`` is the SVD cut after r of them, and

    min ||M − X||_F = sqrt(Σ_{k>r} σ_k²)

(Eckart and Young 1936; Mirsky 1960 for every unitarily invariant norm). It is an equality for the best X and a lower
bound for every other one, whatever scale s stands before ``B A``: s goes into the factors.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_lora.lora.combination import Factors, Term, svd


def balanced_factors(matrix: Float[Tensor, "out in"], rank: int, scale: float = 1.0) -> Factors:
    """The best term of a rank: ``scale · B A`` is the SVD of the matrix cut after ``rank`` singular values.

    ``B = U sqrt(Σ/scale)`` and ``A = sqrt(Σ/scale) Vᵀ``, so that ``Bᵀ B = A Aᵀ``: of all factors of this product, the
    ones of least ``||A||_F² + ||B||_F²``. Any ``B R`` and ``R⁻¹ A`` give the same product.

    Args:
        matrix: What to approximate.
        rank: Of the term; beyond the smaller side of the matrix it is that side.
        scale: The adapter's ``alpha / rank``, positive.

    Returns:
        The factors, fp64 on the CPU.

    Raises:
        ValueError: the scale is not positive, or the rank is below 1.
    """
    if scale <= 0 or rank < 1:
        raise ValueError(f"rank must be 1 or more and scale positive, not rank={rank}, scale={scale}")
    out_features, in_features = matrix.shape
    if out_features <= in_features:
        term = Term(1 / scale, A=matrix, B=torch.eye(out_features))
    else:
        term = Term(1 / scale, A=torch.eye(in_features), B=matrix)
    return svd([term], rank)


def least_error(values: Float[Tensor, " values"], rank: int) -> float:
    """``sqrt(Σ_{k>rank} σ_k²)``: the Frobenius norm that no term of this rank can go below (Eckart and Young 1936).

    Args:
        values: All singular values of the matrix, descending.
        rank: Of the term.
    """
    return float(torch.linalg.vector_norm(values[rank:].double()))


def energy_kept(values: Float[Tensor, " values"]) -> Float[Tensor, " values"]:
    """Shares of ``||M||_F²`` that the best terms of rank 1, 2, … hold: ``Σ_{k≤r} σ_k² / Σ_k σ_k²``, fp64.

    Raises:
        ValueError: all singular values are zero, and there is nothing to hold.
    """
    squares = values.double().square()
    total = squares.sum()
    if total == 0:
        raise ValueError("the matrix is zero: no share of it can be held")
    return squares.cumsum(0) / total
