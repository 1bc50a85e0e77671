"""Matrices from linear measurements, ``y_m = ⟨E_m, X⟩``: by gradient descent on factors, and how far from optimal.

Gunasekar et al. 2017 (arXiv 1705.09280) conjecture that gradient descent on ``X = B A`` from factors that tend to zero
ends at the solution of least nuclear norm. What is computed here tells how near it comes from a given start. Batches
of independent problems run side by side; all in the dtype of the measurements, which should be fp64.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def completion_measurements(seen: Bool[Tensor, "rows columns"]) -> Float[Tensor, "count rows columns"]:
    """One measurement for every entry that is seen, in row order; fp64."""
    count = int(seen.sum())
    measurements = torch.zeros(count, *seen.shape, dtype=torch.float64)
    measurements[torch.arange(count), *seen.nonzero(as_tuple=True)] = 1.0
    return measurements


@dataclass(frozen=True)
class Descent:
    """Where gradient descent on factors ended.

    Attributes:
        product: ``B A`` of every problem.
        residual: ``||y − E(B A)|| / ||y||`` of every problem.
        steps: Steps taken, the same for all.
    """

    product: Float[Tensor, "problems rows columns"]
    residual: Float[Tensor, " problems"]
    steps: int


def descend(
    measurements: Float[Tensor, "problems count rows columns"],
    y: Float[Tensor, "problems count"],
    A: Float[Tensor, "problems rank columns"],
    B: Float[Tensor, "problems rows rank"],
    *,
    lr: float,
    steps: int,
    tolerance: float = 1e-6,
) -> Descent:
    """Gradient descent on ``½ ||y − E(B A)||²`` over both factors, until every relative residual is below tolerance.

    Args:
        measurements: The E_m of every problem.
        y: What they gave.
        A: Where A starts; not changed.
        B: Where B starts; not changed.
        lr: Step size. Where ``E E^*`` has no eigenvalue above 1, ``1 / (4 σ_1)`` is stable near a solution with this
            largest singular value.
        steps: At most so many.
        tolerance: Of ``||y − E(B A)|| / ||y||``; looked at every 100 steps.
    """
    E = measurements.flatten(2)
    norm = torch.linalg.vector_norm(y, dim=1)
    A, B = A.clone(), B.clone()
    for step in range(steps + 1):
        product = B @ A
        error = (E @ product.flatten(1)[..., None])[..., 0] - y
        if step % 100 == 0 or step == steps:
            residual = torch.linalg.vector_norm(error, dim=1) / norm
            if step == steps or bool((residual < tolerance).all()):
                break
        G = (error[:, None] @ E).unflatten(-1, product.shape[1:])[:, 0]
        A, B = A - lr * B.mT @ G, B - lr * G @ A.mT
    return Descent(product, residual, step)


def nuclear_norm_bound(
    measurements: Float[Tensor, "count rows columns"], y: Float[Tensor, " count"], multipliers: Float[Tensor, " count"]
) -> float:
    """What no solution's nuclear norm is below, from any multipliers: a certificate that needs no trust in a solver.

    For every X with ``⟨E_m, X⟩ = y_m`` and every z, ``⟨z, y⟩ = ⟨Σ z_m E_m, X⟩ ≤ ||Σ z_m E_m||_2 · ||X||_*``. So
    ``⟨z, y⟩ / ||Σ z_m E_m||_2`` bounds ``||X||_*`` from below, and the best z, the dual solution, attains the minimum
    (Recht, Fazel and Parrilo 2010, arXiv 0706.4138, section 2).

    Args:
        measurements: The E_m.
        y: What they gave.
        multipliers: z; a solver's dual variables.
    """
    combined = torch.einsum("m,mij->ij", multipliers, measurements)
    return float(multipliers @ y / torch.linalg.matrix_norm(combined, ord=2))
