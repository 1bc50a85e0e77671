"""Adapted layers. An adapted layer *is* its layer: a subclass that adopts the frozen layer's own Parameter objects.

Nothing of the base is copied or renamed: ``isinstance(layer, nn.Linear)``, ``layer.weight``, hooks, tied weights and
state-dict keys are those of the base model. The low-rank terms live beside them in ``adapters``. The laws:

    A = 0 or B = 0         =>  layer(x) == base(x)
    merge(a); layer(x)     ==  layer(x) with adapter a unmerged, up to rounding
    merge(a); unmerge()    =>  layer.weight is the very same Parameter, bit-equal
    release()              is  the very same module object that was adopted
"""

from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from lightning_lora.lora.adapted_linear import adapted_linear, is_fusable
from lightning_lora.lora.delta import LookupDelta, LowRankDelta
from lightning_lora.lora.functional import WHOLE, OutputLayout, add_term, merged_weight
from lightning_lora.lora.heads import RoutedHead
from lightning_lora.lora.routed import Routed
from lightning_lora.lora.routing import Routing
from lightning_lora.lora.spec import LoraSpec


def check_adapter_name(name: str) -> None:
    """Raise ValueError where an adapter cannot have that name, under which it is an attribute of a ModuleDict."""
    if not name.isidentifier():
        raise ValueError(f"adapter name {name!r} must be an identifier: letters, digits, underscores")
    if hasattr(nn.ModuleDict, name) or name == "training":
        raise ValueError(f"adapter name {name!r} is taken by torch; give another one")


class LoRALayer(Routed):
    """What adapted layers have in common: named low-rank terms, one forward, merging.

    Subclasses are this class mixed in front of a layer class, so ``super().forward`` is the base layer's own.
    """

    prefix = "LoRA"
    weight: nn.Parameter
    # Not of embeddings.
    bias: nn.Parameter | None
    delta_class: ClassVar[type[LowRankDelta]] = LowRankDelta
    # The base class's forward, where that is ``x Wᵀ + b`` and nothing else.
    linear_forward: ClassVar[Callable[..., Tensor] | None] = None
    # nn.Linear keeps its weight as (out, in); GPT-2's Conv1D and nn.Embedding as (in, out).
    weight_is_in_by_out: ClassVar[bool] = False
    # In a tuple so that torch does not register it as a parameter of this layer.
    _unmerged_weight: tuple[nn.Parameter] | None

    @classmethod
    def adopt(cls, base: nn.Module, routing: Routing) -> "LoRALayer":
        """See `Routed.adopt`.

        Raises:
            ValueError: ``base`` computes its weight (a parametrisation) instead of holding it.
        """
        if "weight" not in base._parameters:
            raise ValueError(
                f"{type(base).__name__} holds no weight parameter of its own; remove its parametrisation first"
            )
        layer = super().adopt(base, routing)
        layer._unmerged_weight = None
        return layer

    @property
    def features(self) -> tuple[int, int]:
        """(in_features, out_features) of the projection."""
        rows, columns = self.weight.shape
        return (rows, columns) if self.weight_is_in_by_out else (columns, rows)

    def delta(self, adapter: str) -> LowRankDelta:
        """The term of an adapter that the layer carries."""
        return cast(LowRankDelta, self.adapters[adapter])

    def add_adapter(self, name: str, spec: LoraSpec, layout: OutputLayout = WHOLE) -> LowRankDelta:
        """Add a term under ``name``, on the weight's device and in the spec's dtype.

        Raises:
            ValueError: the name is taken, or cannot be one.
        """
        check_adapter_name(name)
        if self.carries(name):
            raise ValueError(f"the layer already has an adapter named {name!r}")
        in_features, out_features = self.features
        self.adapters[name] = delta = self.delta_class(spec, in_features, out_features, layout, self.weight.device)
        delta.train(self.training)
        return delta

    def forward(self, input: Tensor) -> Tensor:
        """The base layer's output plus the term in force, span by span where the batch is mixed.

        An output that the base layer hands out is not changed, and is computed for the whole batch at once. Torch's
        layers call it ``input`` too.
        """
        adapter, spans = self.adapter_in_force(), self.spans_for(input)
        if not spans and self.carries(adapter):
            delta = self.delta(adapter)
            if self._fuses(delta, input):
                return self._fused(delta, input)
        result = cast(Tensor, super().forward(input))
        if not spans:
            return self._adapted(result, input, adapter)
        rows = ((span.adapter, slice(span.start, span.stop)) for span in spans)
        return torch.cat([self._adapted(result[part], input[part], name) for name, part in rows])

    def _adapted(self, result: Tensor, x: Tensor, adapter: str | None) -> Tensor:
        return add_term(result, self.delta(adapter)(x)) if self.carries(adapter) else result

    def _fuses(self, delta: LowRankDelta, x: Tensor) -> bool:
        """Whether base layer and term are what `adapted_linear` computes: no forward and no hook of somebody else's."""
        linear_forward = type(self).linear_forward
        # The functions are compared last, because a compiler stops at that.
        return (
            linear_forward is not None
            and is_fusable(x, self.weight, delta.A, delta.B, delta.layout)
            and delta.is_plain
            and getattr(super().forward, "__func__", None) is linear_forward
        )

    def _fused(self, delta: LowRankDelta, x: Tensor) -> Tensor:
        weight = self.weight.T if self.weight_is_in_by_out else self.weight
        dropout, A, B = delta.dropout.p if delta.dropout.training else 0.0, delta.A, delta.B
        return adapted_linear(x, weight, self.bias, A, B, delta.scale, delta.layout, dropout, delta.rounds_factors)

    @torch.no_grad()
    def merge(self, name: str) -> None:
        """Put ``W0 + ΔW`` in place of the weight, summed in fp64 and rounded once.

        The frozen Parameter itself is set aside, not changed: weights tied to it keep their values, and `unmerge` puts
        the same object back. The cost while merged is one more copy of this weight, in its own type; `release` (on a
        model `inject.eject`) gives it up, and with it the way back. Subtracting ΔW again would need no copy, and
        would not give W0: the sum was rounded.

        Raises:
            ValueError: there is no adapter of that name, or the merged weight is not finite.
            RuntimeError: something is merged already, or the weight or a factor is on the meta device.
        """
        self.check_mergeable(name)
        if any(tensor.is_meta for tensor in (self.weight, self.delta(name).A, self.delta(name).B)):
            raise RuntimeError(
                "the layer is on the meta device, where there are no values to merge; load the model and its adapter "
                "onto the CPU or a GPU first, whole, so that accelerate offloads nothing (no device_map)"
            )
        delta = self.delta(name).weight()
        merged = merged_weight(self.weight, delta.T if self.weight_is_in_by_out else delta)
        self._unmerged_weight = (self.weight,)
        self.weight = nn.Parameter(merged.contiguous(), requires_grad=False)
        self.merged_adapter = name

    def unmerge(self) -> None:
        """Put the frozen Parameter back: the same object, so bit-equal in every dtype.

        Raises:
            RuntimeError: nothing is merged.
        """
        if self._unmerged_weight is None:
            raise RuntimeError("nothing is merged; call merge() first")
        (self.weight,) = self._unmerged_weight
        self._unmerged_weight = None
        self.merged_adapter = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LoRALayer":
        """`nn.Module._apply` (what ``to``, ``half`` and ``cuda`` call), reaching the set-aside weight too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._unmerged_weight is not None:
            aside = nn.ParameterList(self._unmerged_weight)
            aside._apply(fn)  # type: ignore[no-untyped-call]
            self._unmerged_weight = (aside[0],)
        return self


class LoRALinear(LoRALayer, nn.Linear):  # type: ignore[misc]  # torch declares weight as Tensor
    """`nn.Linear` with low-rank terms. Input (..., in), output (..., out)."""

    linear_forward = nn.Linear.forward


class LoRAEmbedding(LoRALayer, nn.Embedding):  # type: ignore[misc]  # torch declares weight as Tensor
    """`nn.Embedding` with low-rank terms. A is (rank, num_embeddings), B (embedding_dim, rank), as in PEFT."""

    delta_class = LookupDelta
    weight_is_in_by_out = True


class LoRAConv1D(LoRALayer):
    """GPT-2's `Conv1D`, a linear layer with its weight as (in, out), with low-rank terms.

    `adopt` mixes it in front of Hugging Face's own class, because this room does not import transformers.
    """

    weight_is_in_by_out = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.linear_forward = cast(type[nn.Module], cls.__bases__[1]).forward

    def forward(self, x: Tensor) -> Tensor:
        """As of the other kinds; ``x`` is what Hugging Face calls it."""
        return super().forward(x)


def lora_class_for(layer: nn.Module) -> type[LoRALayer] | None:
    """The adapted class for a layer, or None where there is none.

    Hugging Face's `Conv1D` is recognised by its name and shape. An adapted layer's class is its own; a head of which
    adapters have copies is none to adapt, nor is a layer whose class computes something else than its kind does, such
    as an embedding that scales what it looks up.
    """
    if isinstance(layer, LoRALayer):
        return type(layer)
    if isinstance(layer, RoutedHead):
        return None
    if isinstance(layer, nn.Linear):
        return LoRALinear if type(layer).forward is nn.Linear.forward else None
    if isinstance(layer, nn.Embedding):
        return LoRAEmbedding if type(layer).forward is nn.Embedding.forward else None
    if type(layer).__name__ == "Conv1D" and hasattr(layer, "nf") and getattr(layer, "weight", torch.empty(0)).ndim == 2:
        return LoRAConv1D
    return None
