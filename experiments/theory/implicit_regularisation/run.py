"""Section 8.4: where gradient descent on factors ends, beside the solution of least nuclear norm."""

import math
from pathlib import Path
from typing import Any

import cvxpy
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from experiments.theory.finding import Finding, carry_out
from lightning_lora.analysis import completion_measurements, descend, nuclear_norm_bound
from lightning_lora.lora import INITIALISATIONS
from lightning_lora.reporting.plots.style import INK, MUTED, SERIES, new_figure, styled

SIDE, RANK, SEEN = 20, 2, 180
# An excess of less than this share of the least nuclear norm is called none.
NEGLIGIBLE = 0.01
STARTS = {
    "balanced, 1e-3": "both factors N(0, 1e-6): small and balanced",
    "LoRA, 1e-3": "B = 0, A ~ N(0, 1e-6): LoRA's form, small",
    "kaiming": "B = 0, A ~ U(±1/√20): LoRA as loralib and PEFT start it",
    "gaussian": "B = 0, A ~ N(0, 1/r): LoRA as the document starts it",
    "unit": "B = 0, A ~ N(0, 1)",
}


def problem(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Measurements of a matrix of rank 2, scaled so that ``E E^*`` has no eigenvalue above 1, and what they gave."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(SIDE, RANK, generator=generator, dtype=torch.float64) for _ in range(2))
    if kind == "completion":
        seen = torch.zeros(SIDE * SIDE, dtype=torch.bool)
        seen[torch.randperm(SIDE * SIDE, generator=generator)[:SEEN]] = True
        E = completion_measurements(seen.view(SIDE, SIDE))
    else:
        E = torch.randn(SEEN, SIDE, SIDE, generator=generator, dtype=torch.float64)
        E = E / torch.linalg.matrix_norm(E.flatten(1), ord=2)
    return E, torch.einsum("mij,ij->m", E, left @ right.T)


def starts(seed: int) -> tuple[Tensor, Tensor]:
    """A and B of every start of `STARTS`, of full rank: what is found is not limited by the rank."""
    torch.manual_seed(seed)
    A, B = torch.zeros(2, len(STARTS), SIDE, SIDE, dtype=torch.float64)
    A[0].normal_(std=1e-3)
    B[0].normal_(std=1e-3)
    A[1].normal_(std=1e-3)
    INITIALISATIONS["kaiming"](A[2], B[2])
    INITIALISATIONS["gaussian"](A[3], B[3])
    A[4].normal_()
    return A, B


def least_nuclear_norm(E: Tensor, y: Tensor) -> tuple[float, float]:
    """The least nuclear norm by cvxpy, and the bound below it that the solver's dual variables prove."""
    X = cvxpy.Variable((SIDE, SIDE))
    fits = E.flatten(1).numpy() @ cvxpy.vec(X, order="C") == y.numpy()
    least = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(X)), [fits]).solve(solver=cvxpy.CLARABEL)
    multipliers = torch.from_numpy(fits.dual_value)
    # Solvers differ in the sign of their dual variables; a bound is a bound with either.
    return float(least), max(nuclear_norm_bound(E, y, sign * multipliers) for sign in (1, -1))


def measure(quick: bool) -> dict[str, Any]:
    seeds = range(10 if quick else 30)
    found: dict[str, Any] = {"starts": STARTS, "seeds": len(seeds)}
    for kind in ("completion", "sensing"):
        drawn = [problem(kind, seed) for seed in seeds]
        E, y = torch.stack([item[0] for item in drawn]), torch.stack([item[1] for item in drawn])
        began = [starts(1000 + seed) for seed in seeds]
        A, B = torch.stack([item[0] for item in began]), torch.stack([item[1] for item in began])
        least, bounds = np.array([least_nuclear_norm(*item) for item in drawn]).T
        end = descend(E, y, A, B, lr=1 / (4 * 40), steps=30_000 if quick else 200_000, tolerance=1e-4)
        values = torch.linalg.svdvals(end.product)
        found[kind] = {
            "least": least.tolist(),
            "gap": float(np.max((least - bounds) / least)),
            "steps": end.steps,
            "residual": end.residual.max(0).values.tolist(),
            "excess": (values.sum(-1).T / torch.from_numpy(least) - 1).tolist(),
            "third_value": (values[..., RANK] / values[..., 0]).mean(0).tolist(),
        }
    return found


def interval(sample: list[float]) -> tuple[float, float]:
    """Mean and half the 95 % interval of Student's t."""
    half = stats.t.ppf(0.975, len(sample) - 1) * np.std(sample, ddof=1) / math.sqrt(len(sample))
    return float(np.mean(sample)), float(half)


if __name__ == "__main__":
    import time
    t = time.time()
    data = measure(True)
    for kind in ("completion", "sensing"):
        d = data[kind]
        print(kind, np.round(d["least"][:3], 2), d["gap"], d["steps"], d["residual"], d["third_value"])
        for s, e in zip(STARTS, d["excess"]): print(s, interval(e))
    print(time.time() - t)
