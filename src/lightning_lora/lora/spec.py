"""What one adapter is: rank, alpha, scaling rule, dropout and initialisation, checked once and then immutable."""

import sys
from dataclasses import dataclass
from typing import Any

import torch

from lightning_lora.lora.initialisation import INITIALISATIONS
from lightning_lora.lora.scaling import SCALINGS
from lightning_lora.spelling import check_known

LARGEST_SCALE = 2**20
"""Far above any that trains; what is read from disk and what is trained are held to the same."""


@dataclass(frozen=True)
class LoraSpec:
    """The settings of one LoRA adapter.

    Attributes:
        rank: Number of rows of A and columns of B, at least 1.
        alpha: Numerator of the scale, positive and finite. None means ``2 * rank``. The scale is at most
            `LARGEST_SCALE`.
        dropout: Probability of dropping an entry of the adapter's input in training, in [0, 1).
        scaling: Name of a rule in `SCALINGS`.
        initialisation: Name of a scheme in `INITIALISATIONS`.
        dtype: Floating-point type of A and B. fp32 by default, also on a half-precision base: updates of
            a fine-tuning step are often below half precision's resolution.

    Raises:
        ValueError: a setting is out of its range; the message gives the value and the range.
    """

    rank: int
    alpha: float | int | None = None
    dropout: float = 0.0
    scaling: str = "alpha_over_rank"
    initialisation: str = "kaiming"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"rank={self.rank!r} must be a whole number of at least 1")
        if self.alpha is not None and not (_is_number(self.alpha) and 0 < self.alpha <= sys.float_info.max):
            raise ValueError(f"alpha={self.alpha!r} must be a positive finite number, or None for 2 * rank")
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout={self.dropout!r} must lie in [0, 1)")
        check_known("scaling", self.scaling, SCALINGS)
        if self.scale > LARGEST_SCALE:
            raise ValueError(f"alpha={self.alpha!r} makes the scale {self.scale:g}; it must be at most {LARGEST_SCALE}")
        check_known("initialisation", self.initialisation, INITIALISATIONS)
        if not self.dtype.is_floating_point:
            raise ValueError(f"dtype={self.dtype} must be a floating-point type")

    @property
    def effective_alpha(self) -> float:
        """``alpha``, or ``2 * rank`` where alpha is None."""
        return 2.0 * self.rank if self.alpha is None else float(self.alpha)

    @property
    def scale(self) -> float:
        """The factor in front of ``B A x``."""
        return SCALINGS[self.scaling](self.effective_alpha, self.rank)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
