"""A new adapter made of others: their weighted sum, or one of them at lower ranks, with the error it costs."""

import copy
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from lightning_lora.inject.adapters import check_unmerged
from lightning_lora.inject.attach import adapter_names, check_adapter
from lightning_lora.lora import LoRALayer, LoraSpec, RoutedHead, lora_layers, routed_modules
from lightning_lora.lora.combination import METHODS, Factors, Term, distance, singular_values
from lightning_lora.spelling import check_known


@dataclass(frozen=True)
class CombinedLayer:
    """How near the new term of a layer is to the weighted sum ``ΔW``.

    Attributes:
        name: Full module name.
        rank: Rank of the new term, of each part of a fused layer.
        norm: ``||ΔW||_F``.
        error: ``||ΔW − ΔW'||_F``, of the factors as they are stored, in their dtype.
        bound: The least error of any term of this rank: ``sqrt(Σ_{k>rank} σ_k²)`` (Eckart and Young 1936). ``svd``
            reaches it, up to the rounding of the factors.
    """

    name: str
    rank: int
    norm: float
    error: float
    bound: float


@dataclass(frozen=True)
class CombinationReport:
    """What a combination cost, layer by layer, and over all layers as one long vector."""

    method: str
    layers: tuple[CombinedLayer, ...]

    @property
    def norm(self) -> float:
        """``||ΔW||_F`` over all layers."""
        return math.hypot(*(layer.norm for layer in self.layers))

    @property
    def error(self) -> float:
        """``||ΔW − ΔW'||_F`` over all layers."""
        return math.hypot(*(layer.error for layer in self.layers))

    @property
    def bound(self) -> float:
        """The least error of any adapter of these ranks."""
        return math.hypot(*(layer.bound for layer in self.layers))


def combine_adapters(
    model: nn.Module,
    weights: Mapping[str, float],
    name: str,
    *,
    method: str = "svd",
    rank: int | Mapping[str, int] | None = None,
    head: str | None = None,
) -> CombinationReport:
    """Add an adapter whose ``ΔW`` is, or is near to, the weighted sum of other adapters' ``ΔW``.

    The new adapter has scale 1 and is neither in force nor trainable; a layer that only some of the adapters carry
    gets the sum of theirs. Heads are not combined: labels of different tasks have nothing to add up.

    Args:
        model: A model with injected adapters, none merged.
        weights: Adapter name -> weight in the sum; negative ones subtract.
        name: Name of the new adapter.
        method: "svd": the nearest of rank ``rank``. "concatenation": the sum itself, at the sum of the ranks.
            "linear": sums of factors, at the rank they have, as PEFT's; see `lora.combination.linear`.
        rank: Rank of the result, for "svd" and only there: one for every layer, of which a layer whose ranks sum to
            less gets that sum; or a mapping that gives each layer, by its full name, its own.
        head: The adapter whose head the new one has too; needed where several adapters have heads of their own.

    Raises:
        ValueError: an adapter, method, rank or head that cannot be. The model is unchanged then.
        RuntimeError: an adapter is merged.
    """
    _check(model, weights, name, method)
    check_unmerged(model, before="combining adapters")
    heads = _heads(model, weights, head)
    terms = {path: _terms(path, layer, weights) for path, layer in lora_layers(model)}
    terms = {path: parts for path, parts in terms.items() if parts}
    ranks = _ranks(terms, method, rank)
    factors = {path: [METHODS[method](part, ranks[path]) for part in parts] for path, parts in terms.items()}
    report = [_add(path, layer, name, weights, terms[path], factors[path]) for path, layer in _carriers(model, terms)]
    for routed, own in heads:
        routed.adapters[name] = copy.deepcopy(own).requires_grad_(False)
    return CombinationReport(method, tuple(report))


def compress_adapter(model: nn.Module, adapter: str, rank: int | Mapping[str, int], name: str) -> CombinationReport:
    """Add an adapter that is ``adapter`` at lower ranks, the nearest there is, with the same head.

    Args:
        model: A model with injected adapters, none merged.
        adapter: The adapter to compress; it stays as it is.
        rank: The new rank, or each layer's by its full name.
        name: Name of the new adapter.

    Raises:
        ValueError: as `combine_adapters` raises.
        RuntimeError: an adapter is merged.
    """
    return combine_adapters(model, {adapter: 1.0}, name, method="svd", rank=rank)


def _check(model: nn.Module, weights: Mapping[str, float], name: str, method: str) -> None:
    if not weights:
        raise ValueError("weights is empty; give a weight for each adapter to combine")
    for adapter, weight in weights.items():
        check_adapter(model, adapter)
        if not math.isfinite(weight):
            raise ValueError(f"the weight of adapter {adapter!r} is {weight}; it must be finite")
    if name in adapter_names(model):
        raise ValueError(f"the model already has an adapter named {name!r}; give another name")
    check_known("method", method, METHODS)


def _heads(model: nn.Module, weights: Mapping[str, float], head: str | None) -> list[tuple[RoutedHead, nn.Module]]:
    """The heads to copy, each with where it goes; none where the new adapter shares the one in the model."""
    routed = [module for _, module in routed_modules(model) if isinstance(module, RoutedHead)]
    if (
        head is None
        and len(weights) > 1
        and any(adapter in module.adapters for module in routed for adapter in weights)
    ):
        raise ValueError(
            f"adapters {', '.join(map(repr, weights))} have heads of their own; say with head= whose the new one takes"
        )
    source = head if head is not None else next(iter(weights))
    check_adapter(model, source)
    return [(module, module.adapters[source]) for module in routed if source in module.adapters]


def _terms(path: str, layer: LoRALayer, weights: Mapping[str, float]) -> list[list[Term]]:
    """For each adapted part of a layer the terms to sum; empty where it carries none of the adapters."""
    deltas = {adapter: layer.delta(adapter) for adapter in weights if adapter in layer.adapters}
    parts: list[list[Term]] = []
    layouts = set()
    for adapter, delta in deltas.items():
        layouts.add(delta.layout)
        parts.append([Term(weights[adapter] * delta.scale, A, B) for A, B in delta.parts()])
    if len(layouts) > 1:
        raise ValueError(f"{path}: the adapters adapt different parts of this fused layer, so they cannot be combined")
    return [list(part) for part in zip(*parts, strict=True)]


def _ranks(
    terms: Mapping[str, list[list[Term]]], method: str, rank: int | Mapping[str, int] | None
) -> Mapping[str, int | None]:
    """The rank of each layer's new term; None where the method has no choice."""
    if method != "svd":
        if rank is not None:
            raise ValueError(f"rank={rank} has no effect with method={method!r}; its rank follows from the adapters'")
        return dict.fromkeys(terms)
    sums = {path: sum(len(term.A) for term in parts[0]) for path, parts in terms.items()}
    if isinstance(rank, Mapping):
        _check_ranks(rank, sums)
        return rank
    most = max(sums.values())
    if rank is None or not 1 <= rank <= most:
        raise ValueError(f"rank={rank}: method='svd' needs a rank from 1 to {most}, the sum of the adapters' ranks")
    return dict.fromkeys(terms, rank)


def _check_ranks(ranks: Mapping[str, int], sums: Mapping[str, int]) -> None:
    """Raise ValueError where a mapping does not give each of these layers a rank that it can have."""
    if different := sorted(set(sums).symmetric_difference(ranks)):
        where = "says nothing of" if different[0] in sums else "names, and no adapter has,"
        raise ValueError(f"the mapping of ranks {where} {different[0]}")
    for path, rank in ranks.items():
        if not 1 <= rank <= sums[path]:
            raise ValueError(f"{path}: rank={rank} must lie in 1 to {sums[path]}, the sum of the adapters' ranks there")


def _carriers(model: nn.Module, terms: Mapping[str, list[list[Term]]]) -> list[tuple[str, LoRALayer]]:
    return [(path, layer) for path, layer in lora_layers(model) if path in terms]


def _add(
    path: str,
    layer: LoRALayer,
    name: str,
    weights: Mapping[str, float],
    terms: list[list[Term]],
    factors: list[Factors],
) -> CombinedLayer:
    """Store the factors as a new adapter of the layer, and measure what is stored."""
    sources = [layer.delta(key) for key in weights if key in layer.adapters]
    rank = len(factors[0].A)
    dtype = functools.reduce(torch.promote_types, (delta.A.dtype for delta in sources))
    delta = layer.add_adapter(name, LoraSpec(rank, alpha=rank, dtype=dtype), sources[0].layout)
    with torch.no_grad():
        delta.A.copy_(torch.cat([part.A for part in factors]))
        delta.B.copy_(torch.cat([part.B for part in factors]))
    delta.requires_grad_(False)
    stored = [Term(delta.scale, A, B) for A, B in delta.parts()]
    values = [singular_values(part) for part in terms]
    return CombinedLayer(
        path,
        rank,
        norm=math.hypot(*(float(torch.linalg.vector_norm(part)) for part in values)),
        error=math.hypot(*(distance(part, term) for part, term in zip(terms, stored, strict=True))),
        bound=math.hypot(*(float(torch.linalg.vector_norm(part[rank:])) for part in values)),
    )
