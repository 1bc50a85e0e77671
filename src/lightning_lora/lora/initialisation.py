"""Initialisation schemes for the two factors. Every scheme here leaves one of them at zero, so the delta starts there.

A scheme fills ``A`` (rank, in) and ``B`` (out, rank) in place, drawing from torch's global generator.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Initialisation = Callable[[Tensor, Tensor], None]


@torch.no_grad()
def kaiming(A: Float[Tensor, "rank in"], B: Float[Tensor, "out rank"]) -> None:
    """``A ~ U(-1/sqrt(in), 1/sqrt(in))``, ``B = 0``: what loralib and PEFT do on all but embeddings.

    It is ``kaiming_uniform_`` with ``a = sqrt(5)``, the default of ``nn.Linear``; the standard deviation is
    ``1 / sqrt(3 · in)`` and does not depend on the rank.
    """
    nn.init.kaiming_uniform_(A, a=math.sqrt(5))
    nn.init.zeros_(B)


@torch.no_grad()
def kaiming_of_lookup(A: Float[Tensor, "rank rows"], B: Float[Tensor, "out rank"]) -> None:
    """``A = 0``, ``B ~ N(0, 1)``: what loralib and PEFT do on embeddings (`reset_parameters`, `reset_lora_parameters`).

    There A x is a column of A, and `kaiming`, whose bound is for sums over ``in`` values, would draw it from within
    1 / sqrt(rows): an embedding of 30,000 tokens would hardly move.
    """
    nn.init.zeros_(A)
    nn.init.normal_(B)


@torch.no_grad()
def gaussian(A: Float[Tensor, "rank in"], B: Float[Tensor, "out rank"]) -> None:
    """``A ~ N(0, 1/rank)`` (standard deviation ``1/sqrt(rank)``), ``B = 0``: Hu et al. 2021, section 4.1, with the
    variance that makes ``E ||A x||² = ||x||²`` at every rank. PEFT's scheme of this name has standard deviation 1/rank.
    """
    nn.init.normal_(A, std=1 / math.sqrt(A.shape[0]))
    nn.init.zeros_(B)


INITIALISATIONS: dict[str, Initialisation] = {"kaiming": kaiming, "gaussian": gaussian}
OF_LOOKUPS: dict[str, Initialisation] = INITIALISATIONS | {"kaiming": kaiming_of_lookup}
"""Those of embeddings. `gaussian` holds of one-hot inputs too."""
