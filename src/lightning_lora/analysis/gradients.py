"""The gradients of A and B in closed form, and how far a first step moves ΔW.

With ``h = W0 x + s · B A x`` and ``G = dL/dW = Σ_n (dL/dh_n) x_nᵀ``, (out, in), the gradient of the weight itself:

    dL/dA = s · Bᵀ G        dL/dB = s · G Aᵀ

(Hu et al. 2021, arXiv 2106.09685, equation 3, differentiated.) The expectations are over A as it is drawn, with B = 0,
and for one G. They are exact for independent entries of mean 0 with the given moments, where nothing else is said.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_lora.analysis.moments import Moments


@dataclass(frozen=True)
class FactorGradients:
    """Gradients of the loss with respect to the two factors."""

    A: Float[Tensor, "rank in"]
    B: Float[Tensor, "out rank"]


def weight_gradient(
    output_gradient: Float[Tensor, "*batch out"], x: Float[Tensor, "*batch in"]
) -> Float[Tensor, "out in"]:
    """``G = Σ_n (dL/dh_n) x_nᵀ`` over all positions of a batch."""
    return output_gradient.flatten(0, -2).T @ x.flatten(0, -2)


def factor_gradients(
    G: Float[Tensor, "out in"], A: Float[Tensor, "rank in"], B: Float[Tensor, "out rank"], scale: float
) -> FactorGradients:
    """``dL/dA = s Bᵀ G`` and ``dL/dB = s G Aᵀ``."""
    return FactorGradients(scale * B.T @ G, scale * G @ A.T)


def sgd_step(
    G: Float[Tensor, "out in"], A: Float[Tensor, "rank in"], B: Float[Tensor, "out rank"], scale: float, lr: float
) -> Float[Tensor, "out in"]:
    """What one step of gradient descent on A and B adds to ΔW.

    ``−lr s² (B Bᵀ G + G Aᵀ A) + lr² s³ G (B A)ᵀ G``; the last term is 0 where B is.
    """
    first_order = B @ (B.T @ G) + (G @ A.T) @ A
    second_order = (G @ A.T) @ (B.T @ G)
    return -lr * scale**2 * first_order + lr**2 * scale**3 * second_order


def adam_first_step(
    G: Float[Tensor, "out in"], A: Float[Tensor, "rank in"], scale: float, lr: float
) -> Float[Tensor, "out in"]:
    """What Adam's first step adds to ΔW at B = 0: ``−lr s · sign(G Aᵀ) A``, for gradients far above its epsilon.

    After one step Adam's two averages, corrected for their start, are the gradient and its square (Kingma and Ba 2015,
    arXiv 1412.6980, algorithm 1), so every entry of B moves by ``lr``, and those of A, without a gradient, stay.
    """
    return -lr * scale * torch.sign(G @ A.T) @ A


def expected_gradient_norm(rank: int, A: Moments, scale: float) -> float:
    """``sqrt(E ||dL/dB||²) / ||G||`` at B = 0: ``s · sqrt(rank · Var(A))``, Frobenius norms.

    Because ``E[Aᵀ A] = rank · Var(A) · I``. It does not depend on the rank for ``Var(A) = 1/rank`` and a constant
    scale, and grows as ``sqrt(rank)`` where the variance does not depend on it.
    """
    return scale * math.sqrt(rank * A.variance)


def expected_sgd_step(rank: int, in_features: int, A: Moments, scale: float) -> float:
    """``sqrt(E ||δΔW||²) / (lr ||G||)`` of the first step of gradient descent: ``s² Var(A) sqrt(r (k + r − 2 + κ))``.

    The step is ``−lr s² G Aᵀ A``, and ``E[(Aᵀ A)²] = Var(A)² · r (k + r − 2 + κ) · I`` with κ the kurtosis: r terms
    ``a aᵀ a aᵀ`` of a row with itself, each ``(k − 1 + κ) I``, and r (r − 1) of two rows, each I.
    """
    return scale**2 * A.variance * math.sqrt(rank * (in_features + rank - 2 + A.kurtosis))


def expected_cosine(rank: int, in_features: int, kurtosis: float) -> float:
    """Cosine between the first step of gradient descent in −ΔW and G: about ``sqrt(r / (k + r − 2 + κ))``.

    The quotient ``E<G, G Aᵀ A> / (||G|| sqrt(E ||G Aᵀ A||²))``. Not the expectation of the cosine, which differs from
    it by the spread of the two. Full fine-tuning's step has the cosine 1.
    """
    return math.sqrt(rank / (in_features + rank - 2 + kurtosis))


def expected_adam_step(rank: int, in_features: int, out_features: int, A: Moments, scale: float) -> float:
    """``sqrt(E ||δΔW||²) / lr`` of Adam's first step: ``s · sqrt(Var(A) · d (r k + 2/π · r (r − 1)))``.

    A row of the step is ``Σ_i sign(g·a_i) a_i``: r squares of expectation ``k Var(A)``, and r (r − 1) products of two
    rows, whose mean is ``sqrt(2/π) std(A) g/||g||``. Exact for normal A, and otherwise where no entry of g outweighs
    the others. For r ≪ k it is ``s · sqrt(Var(A) d k r)``.
    """
    per_row = rank * in_features + 2 / math.pi * rank * (rank - 1)
    return scale * math.sqrt(A.variance * out_features * per_row)
