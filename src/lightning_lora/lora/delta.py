"""One low-rank term: the factors of an adapter on one layer, and what they add to the layer's output."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lightning_lora.lora.dropout import Dropout
from lightning_lora.lora.functional import WHOLE, OutputLayout, delta_weight, expand_low_rank, low_rank_term
from lightning_lora.lora.initialisation import INITIALISATIONS, OF_LOOKUPS, Initialisation
from lightning_lora.lora.spec import LoraSpec


class LowRankDelta(nn.Module):
    """One low-rank term: A (parts · rank, in), B (adapted features, rank), the scale and the input's dropout.

    Attributes:
        rounds_factors: Whether a narrower input is multiplied by factors rounded to its type, as under autocast, rather
            than widened to theirs. Faster and less exact; for training on a base in half precision.
    """

    initialisations: ClassVar[Mapping[str, Initialisation]] = INITIALISATIONS

    def __init__(
        self,
        spec: LoraSpec,
        in_features: int,
        out_features: int,
        layout: OutputLayout = WHOLE,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.layout, self.scale = spec, layout, spec.scale
        parts, adapted = len(layout.adapted), layout.adapted_features(out_features)
        self.A = nn.Parameter(torch.empty(parts * spec.rank, in_features, dtype=spec.dtype, device=device))
        self.B = nn.Parameter(torch.empty(adapted, spec.rank, dtype=spec.dtype, device=device))
        self.dropout = Dropout(spec.dropout)
        self.rounds_factors = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the factors anew, part by part, from torch's global generator."""
        for A, B in self.parts():
            self.initialisations[self.spec.initialisation](A, B)

    def parts(self) -> list[tuple[Float[Tensor, "rank in"], Float[Tensor, "width rank"]]]:
        """A and B of each adapted part, in the layout's order: views without gradient."""
        count = len(self.layout.adapted)
        return list(zip(self.A.detach().chunk(count), self.B.detach().chunk(count), strict=True))

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """``scale · B A dropout(x)``; see `functional.low_rank_term`."""
        A, B = (self.A.to(x.dtype), self.B.to(x.dtype)) if self.rounds_factors else (self.A, self.B)
        return low_rank_term(self.dropout(x), A, B, self.scale, self.layout)

    def weight(self) -> Float[Tensor, "out in"]:
        """The dense update ΔW in fp64; see `functional.delta_weight`."""
        return delta_weight(self.A, self.B, self.scale, self.layout)

    @property
    def is_plain(self) -> bool:
        """True where calling this module runs its own `forward` and dropout, and no hook on one of them."""
        return type(self.dropout) is Dropout and not any(_hooks_of(self)) and not any(_hooks_of(self.dropout))

    def extra_repr(self) -> str:
        return f"rank={self.spec.rank}, scale={self.scale:g}"


class LookupDelta(LowRankDelta):
    """The term of an embedding: A (rank, rows of the table) is looked up in, B (width, rank)."""

    initialisations = OF_LOOKUPS

    def forward(self, x: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch out"]:
        """The term for one-hot inputs given as row numbers; dropping an entry of a one-hot input drops its token."""
        reduced = F.embedding(x, self.A.T) * self.scale
        if self.training and self.dropout.p:
            reduced = reduced * self.dropout(torch.ones_like(reduced[..., :1]))
        return expand_low_rank(reduced, self.B, self.layout)


def _hooks_of(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
