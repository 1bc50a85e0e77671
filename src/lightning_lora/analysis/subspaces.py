"""How alike the directions of two updates are, and which directions of the weight an update makes larger.

The measures are those of Hu et al. 2021 (arXiv 2106.09685), section 7 and appendix G. Everything is computed in fp64.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def right_directions(matrix: Float[Tensor, "rows in"], count: int | None = None) -> Float[Tensor, "in count"]:
    """The first right singular vectors, one a column: directions of a layer's input, the strongest first.

    Those of A alone are what the paper compares. Those of ``ΔW = s B A`` span the same space where B has full column
    rank, and differ in order and in every part of the space.
    """
    directions: Tensor = torch.linalg.svd(matrix.double(), full_matrices=False).Vh[:count].T
    return directions


def similarities(
    first: Float[Tensor, "rows1 in"], second: Float[Tensor, "rows2 in"]
) -> Float[Tensor, "directions1 directions2"]:
    """``φ(first, second, i, j) = ||U_iᵀ V_j||_F² / min(i, j)`` for every i and j; the paper's equation 4.

    U_i and V_j are the first i and j right singular vectors. φ is 1 where the smaller space lies in the larger one,
    and 0 where they are orthogonal. For ``i = j = p`` it is the mean squared cosine of the principal angles, and with
    their projection distance ``d² = Σ sin²θ`` it is ``(p − d²) / p``. The text of appendix G has ``(1 − d²) / p``,
    which is negative for most pairs of spaces and 1/p for equal ones.

    Returns:
        Entry [i − 1, j − 1] is φ(first, second, i, j).
    """
    cosines = right_directions(first).T @ right_directions(second)
    sums = cosines.square().cumsum(0).cumsum(1)
    rows, columns = (torch.arange(1, size + 1, dtype=torch.float64) for size in sums.shape)
    return sums / torch.minimum(rows[:, None], columns)


def random_similarity(i: int, j: int, features: int) -> tuple[float, float]:
    """Mean and standard deviation of φ between a space of i and a random one of j dimensions.

    With P and Q the projections, ``||U_iᵀ V_j||_F² = tr(P Q)``. Rotations make Q's mean ``(j / features) I``, so
    ``E φ = i j / (features · min(i, j)) = max(i, j) / features``. The variance is that of a trace of a product of
    random projections (from the fourth moments of a rotation):
    ``Var tr(P Q) = 2 i j (n − i)(n − j) / (n² (n − 1)(n + 2))`` with ``n = features``.

    Args:
        i: Dimensions of the one space.
        j: Dimensions of the other.
        features: Dimensions of the space that holds both, 2 or more.

    Raises:
        ValueError: a space has fewer than one dimension or more than what holds it.
    """
    if not (1 <= i <= features and 1 <= j <= features and features >= 2):
        raise ValueError(f"no spaces of {i} and {j} dimensions in {features}: 1 to {features} each")
    variance = 2 * i * j * (features - i) * (features - j) / (features**2 * (features - 1) * (features + 2))
    return max(i, j) / features, math.sqrt(variance) / min(i, j)


def seen_along(matrix: Float[Tensor, "out in"], directions_of: Float[Tensor, "out in"], rank: int) -> Float[Tensor, ""]:
    """``||Uᵀ M V||_F``: the part of a matrix M that lies in the first singular directions of another one.

    U and V are the first ``rank`` left and right singular vectors of ``directions_of``. Never more than ``||M||_F``,
    and for M's own directions ``sqrt(Σ_{k≤rank} σ_k²)``.
    """
    U, _, Vh = torch.linalg.svd(directions_of.double(), full_matrices=False)
    seen: Tensor = torch.linalg.matrix_norm(U[:, :rank].T @ matrix.double() @ Vh[:rank].T)
    return seen


def random_seen_along(weight_norm: float, out_features: int, in_features: int, rank: int) -> float:
    """Root mean square of ``||Uᵀ W V||_F`` over random directions: ``rank · ||W||_F / sqrt(out · in)``.

    Each of the ``rank²`` entries of ``Uᵀ W V`` is ``uᵀ W v`` with independent unit vectors of uniform direction, so
    that ``E (uᵀ W v)² = ||W||_F² / (out · in)``.
    """
    return rank * weight_norm / math.sqrt(out_features * in_features)


def amplification(delta: Float[Tensor, "out in"], weight: Float[Tensor, "out in"], rank: int) -> float:
    """``||ΔW||_F / ||Uᵀ W V||_F`` with the first ``rank`` singular directions of ΔW; section 7.3 of the paper.

    How much stronger ΔW is than W in the directions that ΔW uses: 21.5 for the paper's GPT-3 at rank 4 (table 7).
    Random directions give ``||ΔW||_F / ||W||_F · sqrt(out · in) / rank`` (see `random_seen_along`), so the number alone
    says little: compare W along W's own directions, and along random ones.
    """
    return float(torch.linalg.matrix_norm(delta.double()) / seen_along(weight, delta, rank))
