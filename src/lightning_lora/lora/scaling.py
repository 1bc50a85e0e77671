"""Scaling rules: the number ``scale`` in ``h = W0 x + scale · B A x``, as a function of alpha and rank."""

import math
from collections.abc import Callable

ScalingRule = Callable[[float, int], float]


def alpha_over_rank(alpha: float, rank: int) -> float:
    """``alpha / rank``, the rule of LoRA (Hu et al. 2021, arXiv 2106.09685, section 4.1)."""
    return alpha / rank


def alpha_over_sqrt_rank(alpha: float, rank: int) -> float:
    """``alpha / sqrt(rank)``, rank-stabilised LoRA (Kalajdzievski 2023, arXiv 2312.03732, theorem 3.2)."""
    return alpha / math.sqrt(rank)


def constant(alpha: float, rank: int) -> float:
    """``alpha`` whatever the rank: the control that the two other rules are compared with."""
    return alpha


SCALINGS: dict[str, ScalingRule] = {
    "alpha_over_rank": alpha_over_rank,
    "alpha_over_sqrt_rank": alpha_over_sqrt_rank,
    "constant": constant,
}
