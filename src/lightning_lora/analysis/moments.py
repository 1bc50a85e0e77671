"""Means of squares and of fourth powers: of the factors as they are drawn, of their product, and of their estimates.

Everything here is about independent entries of mean 0. The kurtosis is that of Pearson, ``E[x⁴] / E[x²]²``: 3 for the
normal distribution, 9/5 for the uniform.
"""

import math
from dataclasses import dataclass

from scipy import stats

NORMAL, UNIFORM = 3.0, 9 / 5
"""Kurtosis of the two distributions that factors are drawn from."""


@dataclass(frozen=True)
class Moments:
    """Variance and kurtosis of a random number of mean 0."""

    variance: float
    kurtosis: float = NORMAL

    @property
    def std(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)

    def mean_square_bounds(self, count: int, confidence: float = 0.999) -> tuple[float, float]:
        """Where the mean of ``count`` independent squares lies, with this confidence.

        ``Var(x²) = variance² · (kurtosis − 1)``, and the mean of many is normal, so it is meant for thousands.
        """
        quantile = float(stats.norm.ppf((1 + confidence) / 2))
        half = quantile * self.variance * math.sqrt((self.kurtosis - 1) / count)
        return self.variance - half, self.variance + half


def initial_moments(initialisation: str, rank: int, in_features: int) -> Moments:
    """Of an entry of A (rank, in_features) before training.

    Args:
        initialisation: A name in `lora.initialisation.INITIALISATIONS`, or "peft_gaussian" for the standard deviation
            ``1 / rank`` of what PEFT calls gaussian.
        rank: The adapter's rank.
        in_features: Width of the layer's input.

    Raises:
        KeyError: the distribution of such a scheme is not written down here.
    """
    return {
        "kaiming": Moments(1 / (3 * in_features), UNIFORM),
        "gaussian": Moments(1 / rank),
        "peft_gaussian": Moments(1 / rank**2),
    }[initialisation]


def product_moments(rank: int, A: Moments, B: Moments) -> Moments:
    """Of one entry of ``B A``: a sum of ``rank`` independent products.

    ``Var((BA)_ij) = rank · Var(B) · Var(A)``: no input stands in it. So with factors of a fixed size the entries grow
    as ``sqrt(rank)``, and ``alpha / sqrt(rank)`` keeps them (Kalajdzievski 2023, arXiv 2312.03732).
    """
    kurtosis = NORMAL + (A.kurtosis * B.kurtosis - NORMAL) / rank
    return Moments(rank * A.variance * B.variance, kurtosis)


def output_variance(rank: int, in_features: int, A: Moments, B: Moments, input_mean_square: float) -> float:
    """Variance of one entry of ``B A x``: ``in_features · Var((BA)_ij) · E[x²]``, for inputs independent of A and B."""
    return in_features * product_moments(rank, A, B).variance * input_mean_square
