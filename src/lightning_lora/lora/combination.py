"""Sums of low-rank terms, and terms of lower rank, from the factors alone.

The target is ``ΔW = Σ weight_i · ΔW_i``, of rank up to the sum of the ranks. It is never formed: with QR factorisations
``B = Q_B R_B`` and ``Aᵀ = Q_A R_A`` of the stacked factors, ``B A = Q_B (R_B R_Aᵀ) Q_Aᵀ``, and the singular values of
ΔW are those of the core ``R_B R_Aᵀ``, a square of the summed rank. All of it in fp64, on the CPU, where there is fp64
in every build of torch.

What a rank-r term can reach at best: ``min ||ΔW − X||_F = sqrt(Σ_{k>r} σ_k²)`` (Eckart and Young 1936).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """``weight · B A``: one summand. ``weight`` holds the adapter's scale too."""

    weight: float
    A: Float[Tensor, "rank in"]
    B: Float[Tensor, "out rank"]


@dataclass(frozen=True)
class Factors:
    """``B A``, in fp64 on the CPU."""

    A: Float[Tensor, "rank in"]
    B: Float[Tensor, "out rank"]


def concatenation(terms: Sequence[Term], rank: int | None = None) -> Factors:
    """The sum itself: factors side by side, the rank the sum of the ranks."""
    A = torch.cat([_precise(term.A) for term in terms], dim=0)
    B = torch.cat([term.weight * _precise(term.B) for term in terms], dim=1)
    return Factors(A, B)


def linear(terms: Sequence[Term], rank: int | None = None) -> Factors:
    """Sums of factors: the rank stays, and ΔW is not the weighted sum.

    ``A = Σ sign(w_i) sqrt|w_i| A_i`` and ``B = Σ sqrt|w_i| B_i``, as in PEFT's ``linear``. So a single term gives
    ``w · ΔW``, and several give ``Σ w_i ΔW_i`` plus ``Σ_{i≠j} sign(w_j) sqrt|w_i w_j| B_i A_j``, products of factors
    that never were trained together. Meaningful where adapters share one factor or one start; the error tells.

    Raises:
        ValueError: the ranks differ.
    """
    ranks = [len(term.A) for term in terms]
    if len(set(ranks)) > 1:
        raise ValueError(f"method='linear' adds factors of one rank, and these have ranks {ranks}; use 'svd'")
    A = [math.copysign(math.sqrt(abs(term.weight)), term.weight) * _precise(term.A) for term in terms]
    B = [math.sqrt(abs(term.weight)) * _precise(term.B) for term in terms]
    return Factors(torch.stack(A).sum(0), torch.stack(B).sum(0))


def svd(terms: Sequence[Term], rank: int | None = None) -> Factors:
    """The nearest term of rank ``rank`` (or of the summed rank, where that is less) to the weighted sum.

    ``B = Q_B U sqrt(S)`` and ``A = sqrt(S) Vᵀ Q_Aᵀ``: both factors carry the square root of each singular value.
    Outputs and inputs that no term has to do with, such as the key of a fused layer or a token that never came, keep
    their zeros.
    """
    exact = concatenation(terms)
    Q_B, R_B = _orthonormal(exact.B)
    Q_A, R_A = _orthonormal(exact.A.T)
    U, S, Vh = torch.linalg.svd(R_B @ R_A.T, full_matrices=False)
    root = S[:rank].sqrt()
    return Factors((root[:, None] * Vh[:rank]) @ Q_A.T, (Q_B @ U[:, :rank]) * root)


METHODS: dict[str, Callable[[Sequence[Term], int | None], Factors]] = {
    "linear": linear,
    "concatenation": concatenation,
    "svd": svd,
}
"""Ways to make one term of several, by name."""


def singular_values(terms: Sequence[Term]) -> Float[Tensor, " values"]:
    """The singular values of ``Σ weight_i · B_i A_i``, descending, fp64; those beyond the summed rank are zero."""
    exact = concatenation(terms)
    core = torch.linalg.qr(exact.B).R @ torch.linalg.qr(exact.A.T).R.T
    values: Tensor = torch.linalg.svdvals(core)
    return values


def distance(terms: Sequence[Term], other: Term) -> float:
    """``||Σ weight_i · B_i A_i − weight · B A||_F``, without a dense matrix."""
    return float(torch.linalg.vector_norm(singular_values([*terms, Term(-other.weight, other.A, other.B)])))


def _orthonormal(
    factor: Float[Tensor, "width rank"],
) -> tuple[Float[Tensor, "width least"], Float[Tensor, "least rank"]]:
    """Q and R of the factor; where a row of the factor is zero, Q has rounding errors of 1e-17, which are taken out."""
    Q, R = torch.linalg.qr(factor)
    return Q * factor.any(1, keepdim=True), R


def _precise(factor: Tensor) -> Tensor:
    return factor.detach().to("cpu", torch.float64)
