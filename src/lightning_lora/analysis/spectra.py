"""How many directions a trained ``ΔW = scale · B A`` uses: its singular values, and three ways to count them.

The singular values come from squares of the adapter's rank (`lora.combination.singular_values`); nothing of the size of
a weight is formed. All three counts are of one distribution, the shares ``p_k = σ_k² / Σ σ²`` of the energy: with
inputs of unit covariance, ``p_k`` is the part of ``E ||ΔW x||²`` that goes through direction k.

    1  <=  stable rank  <=  entropy rank  <=  rank of ΔW

since they are exponentials of Rényi entropies of p, of orders ∞, 1 and 0 (Rényi 1961). Roy and Vetterli 2007 ("The
effective rank", equation 4) take the entropy of ``σ_k / Σ σ`` instead: that is larger, counts directions that carry
next to nothing of the energy (1.54 where this gives 1.04, in layer 11's query of the published MNLI adapter of
RoBERTa-base), and is in no order with what a truncation keeps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lightning_lora.inject import adapted_layers, check_unmerged
from lightning_lora.lora import LoRALayer, OutputLayout
from lightning_lora.lora.combination import Term, singular_values
from lightning_lora.lora.functional import WHOLE
from lightning_lora.targets import ARCHITECTURES, match

ENERGY = 0.9
"""Share of ``Σ σ²`` that is asked for where none is named."""

# Of the squares' sum: rounding alone must not ask for one direction more.
_ROUNDING = 1e-12


def stable_rank(values: Sequence[float]) -> float:
    """``||ΔW||_F² / ||ΔW||_2²`` (Rudelson and Vershynin 2007, section 1.1); 0 of zero.

    Args:
        values: Singular values, descending.
    """
    shares = _shares(values)
    return 1 / shares[0] if shares else 0.0


def entropy_rank(values: Sequence[float]) -> float:
    """``exp(−Σ p_k log p_k)`` of the shares ``p_k = σ_k² / Σ σ²``; 0 of zero.

    Args:
        values: Singular values, descending.
    """
    shares = _shares(values)
    return math.exp(-math.fsum(p * math.log(p) for p in shares if p)) if shares else 0.0


def energy_rank(values: Sequence[float], share: float = ENERGY) -> int:
    """The smallest k whose best approximation of rank k keeps ``share`` of ``Σ σ²`` (Eckart and Young 1936); 0 of zero.

    Args:
        values: Singular values, descending.
        share: In (0, 1].

    Raises:
        ValueError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"energy={share:g} must be a share of the energy, above 0 and up to 1")
    kept = 0.0
    for k, p in enumerate(_shares(values), 1):
        kept += p
        if kept >= share - _ROUNDING:
            return k
    return 0


def _shares(values: Sequence[float]) -> list[float]:
    """``σ_k² / Σ σ²``; none of zero. Squares are of values relative to the largest, so that none underflows."""
    largest = max(values, default=0.0)
    if not largest > 0:
        return []
    squares = [(value / largest) ** 2 for value in values]
    total = math.fsum(squares)
    return [square / total for square in squares]


@dataclass(frozen=True)
class Spectrum:
    """One adapted projection: what its ``ΔW`` has of the rank it was given.

    Attributes:
        module: Full module name; the parts of a fused layer share it.
        block: Number of its transformer block; None where the architecture's table does not know the module.
        role: Its part in the block ("query"), of a fused layer that is adapted as one matrix all of them
            ("query+key+value"); the last part of the module's name where the table does not know it.
        rank: The adapter's.
        singular_values: Of ΔW, descending; ``rank`` of them, or the weight's smaller side where that is less.
        base_norm: ``||W0||_F`` of the same rows.
        parameters: Adapter parameters that one rank of it costs: ``in`` and the outputs that are adapted.
        size: Adapter parameters that it has: ``rank · parameters``, or fewer where it is a fused layer whose parts were
            trained apart and came back from disk as one matrix. There each column of B holds values of one part; the
            zeros beside them were never parameters. They become some where the matrix is cut as one.
    """

    module: str
    block: int | None
    role: str
    rank: int
    singular_values: tuple[float, ...]
    base_norm: float
    parameters: int
    size: int

    @cached_property
    def norm(self) -> float:
        """``||ΔW||_F``."""
        return math.hypot(*self.singular_values)

    @property
    def relative_norm(self) -> float:
        """``||ΔW||_F / ||W0||_F``."""
        return self.norm / self.base_norm if self.base_norm else math.nan

    @cached_property
    def stable_rank(self) -> float:
        """See `stable_rank`."""
        return stable_rank(self.singular_values)

    @cached_property
    def entropy_rank(self) -> float:
        """See `entropy_rank`."""
        return entropy_rank(self.singular_values)

    def energy_rank(self, share: float = ENERGY) -> int:
        """See `energy_rank`."""
        return energy_rank(self.singular_values, share)

    def figures(self) -> dict[str, float]:
        """The numbers that are logged of it, by name."""
        return {
            "entropy_rank": self.entropy_rank,
            "stable_rank": self.stable_rank,
            "energy_90_rank": float(self.energy_rank()),
            "relative_norm": self.relative_norm,
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        where = {"module": self.module, "block": self.block, "role": self.role, "rank": self.rank}
        return {**where, **self.figures(), "singular_values": list(self.singular_values)}


def spectra(model: nn.Module, adapter: str = "default") -> list[Spectrum]:
    """The spectrum of every projection that an adapter adapts, in the model's order.

    For a BERT-base with rank 8 on query and value that is 24 times two QR factorisations of 768 x 8 matrices, in fp64
    on the CPU, and the norms of 24 weights, where these are.

    Args:
        model: A model with injected adapters, none merged.
        adapter: Name of the adapter.

    Raises:
        ValueError: the model has no such adapter.
        RuntimeError: an adapter is merged, so that the weights are not the base model's.
    """
    check_unmerged(model, before="taking spectra")
    carriers = adapted_layers(model, adapter).items()
    return [spectrum for name, layer in carriers for spectrum in _spectra_of(model, name, layer, adapter)]


def proposed_ranks(found: Sequence[Spectrum], share: float = ENERGY) -> dict[str, int]:
    """The rank at which each layer keeps a share of its energy, by its full name; at least 1.

    The parts of a fused layer have one rank: that of the part which needs most. Every layer keeps at least the share,
    so that all of them together do: the error of a truncation is at most ``sqrt(1 − share)`` of ``||ΔW||_F``.

    Raises:
        ValueError: the share is not in (0, 1].
    """
    ranks: dict[str, int] = {}
    for spectrum in found:
        ranks[spectrum.module] = max(spectrum.energy_rank(share), ranks.get(spectrum.module, 1))
    return ranks


def _spectra_of(model: nn.Module, name: str, layer: LoRALayer, adapter: str) -> list[Spectrum]:
    delta = layer.delta(adapter)
    block, roles, table = _place(model, name, delta.layout)
    weight = layer.weight.detach()
    norms = _norms(weight.T if layer.weight_is_in_by_out else weight, delta.layout)
    return [
        Spectrum(
            module=name,
            block=block,
            role=role,
            rank=len(A),
            singular_values=tuple(singular_values([Term(delta.scale, A, B)]).tolist()),
            base_norm=norm,
            parameters=A.shape[1] + int(adapts.any(1).sum()) * len(B) // len(adapts),
            size=A.numel() + int(adapts.sum()) * len(B) // len(adapts),
        )
        for role, norm, (A, B) in zip(roles, norms, delta.parts(), strict=True)
        for adapts in [_adapts(B, table if delta.layout.is_whole else WHOLE)]
    ]


def _place(model: nn.Module, name: str, layout: OutputLayout) -> tuple[int | None, list[str], OutputLayout]:
    """The block that a module is in, the role of each part that is adapted, and the parts that its table knows."""
    config = getattr(model, "config", None)
    found = match(name, ARCHITECTURES.get(getattr(config, "model_type", ""), ()))
    if found is None:
        return None, [name.rpartition(".")[2]] * len(layout.adapted), WHOLE
    roles = [str(role) for role in found.roles]
    parts = range(len(roles))
    table = OutputLayout(tuple(parts), len(parts), found.projection.groups_in(config))
    return found.block, ["+".join(roles)] if layout.is_whole else [roles[part] for part in layout.adapted], table


def _adapts(B: Float[Tensor, "out rank"], layout: OutputLayout) -> Bool[Tensor, "parts rank"]:
    """Which parts of the output each direction has values for; a direction without any may have them for all."""
    blocks = B.reshape(layout.groups, layout.parts, -1, B.shape[1])
    adapts = (blocks != 0).any(2).any(0)
    return adapts | ~adapts.any(0)


def _norms(weight: Float[Tensor, "out in"], layout: OutputLayout) -> list[float]:
    """``||W0||_F`` of each adapted part."""
    precise = torch.promote_types(weight.dtype, torch.float32)
    parts = weight.reshape(layout.groups, layout.parts, -1, weight.shape[1])
    return [float(torch.linalg.vector_norm(parts[:, part], dtype=precise)) for part in layout.adapted]
