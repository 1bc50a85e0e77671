"""How many parameters an adapter has on a model, before it is injected; and the ways in which others count them.

A term on an (out, in) projection has ``rank · (in + out)`` parameters (Hu et al. 2021, arXiv 2106.09685, section 4.2),
and the projection ``in · out``. The ratio of the two, ``d / (2 · rank)`` where the projection is square, is that of one
projection and not of a model: what is not adapted counts in the model alone.

Only shapes are read, so a model on the meta device, without values, is as good as any.
"""

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from lightning_lora.inject import Selected, select
from lightning_lora.targets import ROLE_SETS, Role


@dataclass(frozen=True)
class ProjectionKind:
    """The adapted projections of one role and one shape.

    Attributes:
        roles: The adapted roles; several of a fused projection.
        in_features: Width of the input.
        out_features: Width of the adapted part of the output.
        layers: How many such projections there are.
        parameters_per_rank: Adapter parameters that one more rank costs on all of them together.
    """

    roles: tuple[str, ...]
    in_features: int
    out_features: int
    layers: int
    parameters_per_rank: int

    @property
    def weights(self) -> int:
        """Entries of the adapted weights, of all layers together."""
        return self.layers * self.in_features * self.out_features


@dataclass(frozen=True)
class AdapterCount:
    """The parameters of an adapter, of its head and of the model it is for; each parameter once, also a tied one.

    Attributes:
        rank: The rank of every term.
        kinds: The adapted projections by role and shape.
        adapter: Entries of A and B.
        head: Newly initialised parameters, which train beside the adapter.
        base: The model's other parameters: those of the checkpoint.
    """

    rank: int
    kinds: tuple[ProjectionKind, ...]
    adapter: int
    head: int
    base: int

    @property
    def adapted_weights(self) -> int:
        """Entries of the adapted weights, as many as all the ΔW have."""
        return sum(kind.weights for kind in self.kinds)

    @property
    def reduction(self) -> float:
        """``in · out / (rank · (in + out))`` over all adapted projections: how many times larger they are."""
        return self.adapted_weights / self.adapter

    @property
    def reduction_of_model(self) -> float:
        """Parameters of the checkpoint, which full fine-tuning would train, for one of the adapter."""
        return self.base / self.adapter

    @property
    def percent_adapter_only(self) -> float:
        """``100 · adapter / base``: without a head, as the tables of the LoRA paper count."""
        return 100 * self.adapter / self.base

    @property
    def percent_with_head(self) -> float:
        """``100 · (adapter + head) / (base + head + adapter)``: what trains of the adapted model, as in our records."""
        return 100 * (self.adapter + self.head) / (self.base + self.head + self.adapter)

    def as_peft_counts(self, copied: int) -> tuple[int, int]:
        """(trainable, all) as PEFT's ``print_trainable_parameters`` gives them.

        PEFT trains a copy of the head and leaves the original in the model, frozen, so that a head is twice in its
        total. What is new and not in a module that PEFT copies is frozen there, and counted as the base is.

        Args:
            copied: Parameters of the modules that PEFT copies (its ``modules_to_save``).
        """
        return self.adapter + copied, self.base + self.head + self.adapter + copied


def count_adapter(
    model: nn.Module, rank: int, roles: Collection[Role] = ROLE_SETS["qv"], new_parameters: Collection[str] = ()
) -> AdapterCount:
    """Count what `inject_adapter` would add to a model at one rank for all layers; the model is not changed.

    Args:
        model: A transformer without adapters, on any device; the meta device will do.
        rank: At least 1.
        roles: Which projections, see `ROLE_SETS`.
        new_parameters: Names of the newly initialised parameters.

    Raises:
        ValueError: no layer has such a role.

    Law: ``count_adapter(m, r).adapter == inject_adapter(m, LoraSpec(r)).totals.adapter``, and so for all roles.
    """
    chosen = select(model, roles=roles, new_parameters=new_parameters)
    head_ids = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if name in set(new_parameters)}
    head = sum(p.numel() for p in model.parameters() if id(p) in head_ids)
    total = sum(p.numel() for p in model.parameters())
    kinds = _kinds(chosen)
    return AdapterCount(rank, kinds, rank * sum(kind.parameters_per_rank for kind in kinds), head, total - head)


def _kinds(chosen: Collection[Selected]) -> tuple[ProjectionKind, ...]:
    found: dict[tuple[tuple[str, ...], int, int], list[Selected]] = {}
    for selected in chosen:
        in_features, out_features = selected.features
        key = (selected.roles, in_features, selected.layout.adapted_features(out_features))
        found.setdefault(key, []).append(selected)
    return tuple(
        ProjectionKind(*key, len(layers), sum(selected.parameters_per_rank for selected in layers))
        for key, layers in found.items()
    )
