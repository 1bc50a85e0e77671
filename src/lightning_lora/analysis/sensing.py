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
        product: ``B A``, of every problem from every start.
        residual: ``||y − E(B A)|| / ||y||``.
        steps: Steps taken, the same for all.
    """

    product: Float[Tensor, "problems starts rows columns"]
    residual: Float[Tensor, "problems starts"]
    steps: int


def descend(
    measurements: Float[Tensor, "problems count rows columns"],
    y: Float[Tensor, "problems count"],
    A: Float[Tensor, "problems starts rank columns"],
    B: Float[Tensor, "problems starts rows rank"],
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
    E, sides = measurements.flatten(2), measurements.shape[2:]
    norm = torch.linalg.vector_norm(y, dim=1)[:, None]
    for step in range(steps + 1):
        product = B @ A
        error = product.flatten(2) @ E.mT - y[:, None]
        if step % 100 == 0 or step == steps:
            residual = torch.linalg.vector_norm(error, dim=2) / norm
            if bool((residual < tolerance).all()):
                break
        if step < steps:
            G = (error @ E).reshape(*error.shape[:2], *sides)
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
