"""What an injection did, in numbers: every adapted module, and where the model's parameters stand."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from lightning_lora.lora import adapter_parameters


@dataclass(frozen=True)
class AdaptedModule:
    """One adapted layer.

    Attributes:
        name: Full module name. A shared layer (ALBERT) stands here once, under its first name.
        roles: The roles that are adapted; several of a fused projection, ("named",) where the user gave the name.
        in_features: Width of the input.
        out_features: Width of the whole output, of all fused parts together.
        rank: Rank of each role's term.
        parameters: Number of adapter parameters on this layer.
    """

    name: str
    roles: tuple[str, ...]
    in_features: int
    out_features: int
    rank: int
    parameters: int


@dataclass(frozen=True)
class ParameterTotals:
    """Number of parameters by what happens to them; each parameter is counted once, also where it is tied.

    Attributes:
        adapter: A and B of the adapters that train.
        head: Newly initialised parameters (not in the checkpoint) that train.
        other_trainable: Anything else that trains: biases in BitFit, the base model in full fine-tuning.
        frozen: What does not train.
    """

    adapter: int
    head: int
    other_trainable: int
    frozen: int

    @property
    def trainable(self) -> int:
        """Adapter, head and other trainable parameters together."""
        return self.adapter + self.head + self.other_trainable

    @property
    def total(self) -> int:
        """All parameters of the model, adapters included."""
        return self.trainable + self.frozen

    @property
    def trainable_percent(self) -> float:
        """``100 · trainable / total``; 0 for a model without parameters."""
        return 100 * self.trainable / self.total if self.total else 0.0

    def as_dict(self) -> dict[str, int | float]:
        """The numbers as the record keeps them: the four parts, ``total`` and ``trainable_percent``."""
        return {**asdict(self), "total": self.total, "trainable_percent": self.trainable_percent}


@dataclass(frozen=True)
class InjectionReport:
    """What was adapted and what trains.

    Attributes:
        method: "lora", or the baseline: "head", "bitfit", "full".
        modules: The adapted layers in the model's order; empty for a baseline.
        totals: The model's parameters by what happens to them.
    """

    method: str
    modules: tuple[AdaptedModule, ...]
    totals: ParameterTotals

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {"method": self.method, "modules": [asdict(m) for m in self.modules], "totals": self.totals.as_dict()}


def count_parameters(model: nn.Module, new_parameters: Collection[str] = ()) -> ParameterTotals:
    """Count a model's parameters by what happens to them.

    Args:
        model: Any module; a tied parameter counts once.
        new_parameters: Names of the newly initialised parameters (aliases of tied ones allowed).
    """
    adapter_ids = {id(p) for _, p in adapter_parameters(model)}
    new_ids = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if name in set(new_parameters)}
    counts = dict.fromkeys(("adapter", "head", "other_trainable", "frozen"), 0)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            kind = "frozen"
        elif id(parameter) in adapter_ids:
            kind = "adapter"
        else:
            kind = "head" if id(parameter) in new_ids else "other_trainable"
        counts[kind] += parameter.numel()
    return ParameterTotals(**counts)
